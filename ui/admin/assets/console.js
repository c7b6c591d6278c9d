/**
 * The admin console in the browser. The server draws every page and dialog; this only sends forms, follows links, and puts
 * the markup in its place. A form says what it does: `data-show="page"` goes to an address, `data-page` and `data-action`
 * call a handler.
 */

import { startTheme, switchTheme } from "./theme.js";

/**
 * @typedef {{ html: string, dialog: string, go: string, said: string, is_error: boolean, must_sign_in: boolean,
 *             file_name: string, file_text: string }} Reply
 * @typedef {{ page: string, action: string, fields: Record<string, string[]> }} Call
 * @typedef {{ ask: (call: Call) => Promise<Reply> }} Server
 */

const HOME = "overview";
const RAIL_OF = { prompt: "prompts", review: "reviews" };
const YEAR_S = 365 * 24 * 3600;
const TOAST_MS = 6000;
const MAX_FILE_BYTES = 1_000_000;

/**
 * Fill the shell that Gradio has drawn.
 * @param {HTMLElement} root
 * @param {Server} server
 */
export async function start(root, server) {
  startTheme();
  await new Console(root, server).open();
}

class Console {
  /**
   * @param {HTMLElement} root
   * @param {Server} server
   */
  constructor(root, server) {
    this.root = root;
    this.server = server;
    this.shown = "";
    this.looks = 0;
    this.isDirty = false;
    /** @type {DOMStringMap} */
    this.words = {};
  }

  async open() {
    const frame = await this.ask({ page: "frame", action: "show", fields: {} });
    if (!frame?.html) return;
    this.root.innerHTML = frame.html;
    this.main = this.part("main");
    this.dialogs = this.part(".dialogs");
    this.words = this.part(".words").dataset;
    document.documentElement.lang = this.words.language === "zh" ? "zh-CN" : "en";
    this.root.addEventListener("submit", (event) => this.submit(event));
    this.root.addEventListener("click", (event) => this.click(event));
    this.root.addEventListener("change", (event) => this.change(event));
    this.root.addEventListener("input", (event) => {
      if (/** @type {HTMLInputElement} */ (event.target).form?.dataset.guarded !== undefined) this.isDirty = true;
    });
    addEventListener("hashchange", () => this.follow());
    addEventListener("beforeunload", (event) => this.isDirty && event.preventDefault());
    await this.show(address());
    this.root.removeAttribute("aria-busy");
    this.tick();
  }

  /** Show the page that the address names, unless that would lose what was typed. */
  async follow() {
    if (address() === this.shown) return;
    if (this.isDirty && !confirm(this.words.leave)) {
      history.pushState(null, "", `#${this.shown}`);
      return;
    }
    await this.show(address());
    this.main.focus({ preventScroll: true });
    scrollTo(0, 0);
  }

  /**
   * Show a page; of two that were asked for, the later one stays.
   * @param {string} where
   */
  async show(where) {
    const look = ++this.looks;
    const reply = await this.ask(callOf(where));
    if (look !== this.looks || !reply) return;
    if (reply.is_error) {
      this.main.replaceChildren(paragraph("empty", reply.said));
    } else {
      this.main.innerHTML = reply.html;
    }
    this.shown = where;
    this.isDirty = false;
    localTimes(this.main);
    this.mark(where.split("?")[0]);
  }

  /** @param {string} page */
  mark(page) {
    const current = RAIL_OF[page] ?? page;
    for (const link of this.root.querySelectorAll("[data-rail]")) {
      const isCurrent = /** @type {HTMLElement} */ (link).dataset.rail === current;
      if (isCurrent) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    document.title = `${this.main.querySelector("h1")?.textContent ?? this.words.console} · Haina`;
  }

  /** Keep a page that ticks fresh while somebody looks at it. What did not change is not touched. */
  async tick() {
    const ticking = /** @type {HTMLElement | null} */ (this.main.querySelector("[data-tick]"));
    if (ticking && !document.hidden && address() === this.shown) {
      const look = this.looks;
      const wasStale = ticking.dataset.stale !== undefined;
      const reply = await this.ask(callOf(this.shown), { isQuiet: wasStale });
      if (reply?.html && look === this.looks) this.patch(reply.html);
      ticking.toggleAttribute("data-stale", !reply?.html);
    }
    setTimeout(() => this.tick(), Number(ticking?.dataset.tick ?? 1000));
  }

  /** @param {string} html */
  patch(html) {
    const fresh = document.createElement("template");
    fresh.innerHTML = html;
    for (const part of fresh.content.querySelectorAll("[data-live]")) {
      const name = part.getAttribute("data-live");
      const old = this.main.querySelector(`[data-live="${name}"]`);
      if (old && old.innerHTML !== part.innerHTML) old.innerHTML = part.innerHTML;
    }
  }

  /** @param {SubmitEvent} event */
  async submit(event) {
    const form = /** @type {HTMLFormElement} */ (event.target);
    const { show, page, action } = form.dataset;
    if (show === undefined && page === undefined) return;
    event.preventDefault();
    const fields = await fieldsOf(form);
    if (show !== undefined) {
      location.hash = addressOf(show, fields);
      return;
    }
    const button = /** @type {HTMLButtonElement | null} */ (event.submitter);
    if (button) button.disabled = true;
    await this.act({ page: page ?? "", action: button?.dataset.action ?? action ?? "", fields });
    if (button) button.disabled = false;
  }

  /** @param {Call} call */
  async act(call) {
    const reply = await this.ask(call);
    if (!reply || reply.is_error) {
      if (reply) this.say(reply.said, true);
      return;
    }
    this.dialogs.replaceChildren();
    if (reply.go) {
      this.isDirty = false;
      await this.show(reply.go);
      history.pushState(null, "", `#${reply.go}`);
    }
    if (reply.dialog) this.openDialog(reply.dialog);
    if (reply.file_name) save(reply.file_name, reply.file_text);
    if (reply.said) this.say(reply.said, false);
  }

  /** @param {string} html */
  openDialog(html) {
    this.dialogs.innerHTML = html;
    localTimes(this.dialogs);
    const dialog = /** @type {HTMLDialogElement} */ (this.dialogs.querySelector("dialog"));
    dialog.addEventListener("close", () => dialog.remove());
    dialog.showModal();
  }

  /** @param {MouseEvent} event */
  click(event) {
    const target = /** @type {HTMLElement} */ (event.target);
    const button = /** @type {HTMLElement | null} */ (target.closest("button"));
    if (target instanceof HTMLDialogElement || button?.dataset.close !== undefined) {
      target.closest("dialog")?.close();
    } else if (button?.dataset.copy) {
      this.copy(button);
    } else if (button?.dataset.addRow !== undefined) {
      this.addRow(button);
    } else if (button?.dataset.removeRow !== undefined) {
      button.closest(".row")?.remove();
      this.isDirty = true;
    } else if (button?.dataset.themeSwitch !== undefined) {
      switchTheme();
    } else if (button?.dataset.language) {
      document.cookie = `haina_lang=${button.dataset.language}; path=/; max-age=${YEAR_S}; samesite=lax`;
      location.reload();
    }
  }

  /** @param {Event} event */
  change(event) {
    const input = /** @type {HTMLInputElement} */ (event.target);
    if (input.dataset.submits !== undefined) input.form?.requestSubmit();
  }

  /** @param {HTMLElement} button */
  addRow(button) {
    const fieldset = /** @type {HTMLElement} */ (button.closest("fieldset"));
    const blank = /** @type {HTMLTemplateElement} */ (fieldset.querySelector("template"));
    const rows = /** @type {HTMLElement} */ (fieldset.querySelector("[data-rows]"));
    rows.append(blank.content.cloneNode(true));
    /** @type {HTMLElement | null} */ (rows.lastElementChild?.querySelector("input, textarea"))?.focus();
    this.isDirty = true;
  }

  /** @param {HTMLElement} button */
  async copy(button) {
    const text = this.root.querySelector(button.dataset.copy ?? "")?.textContent ?? "";
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = this.words.copied ?? "";
    } catch {
      this.say(this.words.copyFailed ?? "", true);
    }
  }

  /**
   * Say a sentence: in the dialog that is open where something went wrong, else at the page's edge.
   * @param {string} text
   * @param {boolean} isError
   */
  say(text, isError) {
    const place = /** @type {HTMLElement | null} */ (this.dialogs?.querySelector("dialog[open] .said"));
    if (place && isError) {
      place.hidden = false;
      place.textContent = text;
      return;
    }
    const toast = paragraph(isError ? "toast error" : "toast", text);
    this.part(".toasts").replaceChildren(toast);
    setTimeout(() => toast.remove(), TOAST_MS);
  }

  /**
   * @param {Call} call
   * @param {{ isQuiet?: boolean }} [how] quiet: what went wrong was said before
   * @returns {Promise<Reply | null>}
   */
  async ask(call, { isQuiet = false } = {}) {
    try {
      const reply = await this.server.ask(call);
      if (reply.must_sign_in) location.assign("/login?next=/admin");
      return reply;
    } catch {
      if (!this.main) location.replace("/login?next=/admin"); // signed out: the frame itself is not given
      else if (!isQuiet && this.words.unreachable) this.say(this.words.unreachable, true);
      return null;
    }
  }

  /**
   * @param {string} selector
   * @returns {HTMLElement}
   */
  part(selector) {
    return /** @type {HTMLElement} */ (this.root.querySelector(selector));
  }
}

/** @returns {string} `page?name=value`, as it stands behind the `#` */
function address() {
  return location.hash.slice(1) || HOME;
}

/**
 * @param {string} where
 * @returns {Call}
 */
function callOf(where) {
  const [page, query = ""] = where.split("?", 2);
  const fields = Object.fromEntries([...new URLSearchParams(query)].map(([name, value]) => [name, [value]]));
  return { page, action: "show", fields };
}

/**
 * @param {string} page
 * @param {Record<string, string[]>} fields
 */
function addressOf(page, fields) {
  const given = Object.entries(fields).flatMap(([name, values]) => values.filter(Boolean).map((value) => [name, value]));
  return given.length ? `${page}?${new URLSearchParams(given)}` : page;
}

/**
 * @param {HTMLFormElement} form
 * @returns {Promise<Record<string, string[]>>} what was typed; a chosen file as its text and its name
 */
async function fieldsOf(form) {
  /** @type {Record<string, string[]>} */
  const fields = {};
  for (const [name, value] of new FormData(form)) {
    if (typeof value === "string") {
      (fields[name] ??= []).push(value);
    } else if (value.name) {
      fields[name] = [await value.slice(0, MAX_FILE_BYTES).text()];
      fields[`${name}_name`] = [value.name];
    }
  }
  return fields;
}

/**
 * Show times in the reader's zone and way of writing.
 * @param {HTMLElement} part
 */
function localTimes(part) {
  const format = new Intl.DateTimeFormat(document.documentElement.lang, { dateStyle: "medium", timeStyle: "short" });
  for (const time of part.querySelectorAll("time")) {
    time.textContent = format.format(new Date(time.dateTime));
    time.title = time.dateTime;
  }
}

/**
 * @param {string} className
 * @param {string} text
 */
function paragraph(className, text) {
  const element = document.createElement("p");
  element.className = className;
  element.textContent = text;
  return element;
}

/**
 * @param {string} name
 * @param {string} text
 */
function save(name, text) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "application/toml" }));
  link.download = name;
  link.click();
  URL.revokeObjectURL(link.href);
}
