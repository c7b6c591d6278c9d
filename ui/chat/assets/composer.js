/** The message box. What is typed is kept for the browser session, one draft a conversation, until the server has taken it. */

import { button, fill, h } from "./dom.js";
import { number, t } from "./i18n.js";
import { hangPicker } from "./templates.js";

/** @typedef {import("./chat.js").Chat} Chat */

const LIMIT = 32000;
const COUNTED_FROM = 28000;
const DRAFT = "haina.draft.";
const NEW = "new";

export class Composer {
  /** Under which the draft is kept. */
  key = "";
  counter = h("span", { class: "counter" });
  context = h("span", { class: "context", role: "img" });
  action = h("button");
  /** @type {HTMLButtonElement | undefined} */
  opener;
  #isRunning = false;
  #isSending = false;
  /** Whether the picker was opened by a "/", which belongs to the text if no template is picked. */
  #isSlashed = false;
  /** Whether the fault shown is that the server was not reached. */
  #isUnsent = false;

  /**
   * @param {HTMLElement} root
   * @param {{chat: Chat, templates: import("./templates.js").Templates, status: import("./status.js").Status}} parts
   */
  constructor(root, { chat, templates, status }) {
    this.chat = chat;
    this.templates = templates;
    this.status = status;
    this.text = h("textarea", { id: "haina-message", rows: "1", dir: "auto", enterkeyhint: "send" });
    this.fault = h("p", { class: "fault", role: "alert", hidden: true });
    this.foot = h("div", { class: "composer-foot" });
    this.constant = h("p", { class: "constant" });
    this.box = h("form", { class: "box" }, templates.form, this.text, this.foot);
    fill(root, this.fault, this.box, this.constant);
    this.box.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send();
    });
    this.box.addEventListener("pointerdown", (event) => this.#focusFromMargin(event));
    this.text.addEventListener("keydown", (event) => this.#onKey(event));
    this.text.addEventListener("input", () => this.#onInput());
    new ResizeObserver(() => this.#grow()).observe(this.text);
    templates.addEventListener("picked", () => {
      this.#isSlashed = false;
      this.draw();
    });
    templates.addEventListener("unpicked", (event) => {
      if (this.#isSlashed) this.#take(`/${/** @type {CustomEvent<string>} */ (event).detail}`);
      this.#isSlashed = false;
    });
    templates.addEventListener("example", (event) => this.#take(/** @type {CustomEvent<string>} */ (event).detail));
    status.addEventListener("change", () => this.#onStatus());
    this.draw();
  }

  /**
   * A conversation is shown, or its answer has ended.
   * @param {Chat} chat
   */
  open({ conversation, runningId }) {
    const key = DRAFT + (conversation?.id ?? NEW);
    if (key !== this.key) {
      // What was typed before the first conversation was open belongs to it.
      const isEarly = !this.key && this.text.value;
      if (!isEarly) this.text.value = sessionStorage.getItem(key) ?? "";
      this.key = key;
      this.#showFault("");
      this.#grow();
    }
    if (conversation && this.templates.picked) this.templates.pick(null);
    this.setRunning(runningId !== null);
  }

  /** @param {boolean} isRunning */
  setRunning(isRunning) {
    if (this.#isRunning && !isRunning && this.fault.textContent === t("composer.wait")) this.#showFault("");
    this.#isRunning = isRunning;
    this.draw();
  }

  /** Let the reader type; not on a touch screen, where that would open the keyboard over the answer. */
  focus() {
    if (matchMedia("(hover: hover)").matches) this.text.focus();
  }

  /** Draw everything but the text, in the present language. */
  draw() {
    const isNew = !this.chat.conversation;
    this.templates.form.hidden = !isNew || !this.templates.picked;
    this.text.setAttribute("aria-label", t("composer.label"));
    this.text.placeholder = t(isNew && !this.templates.picked ? "composer.placeholder" : "composer.placeholder_plain");
    this.constant.textContent = t("composer.footer");
    const hadFocus = this.foot.contains(document.activeElement);
    this.action = this.#drawAction();
    fill(this.foot, isNew && this.#drawPicker(), h("span", { class: "space" }), this.counter, this.context, this.action);
    this.#drawContext();
    if (hadFocus) this.action.focus();
    this.#count();
  }

  /** ➤, or ■ in the same place while an answer runs. */
  #drawAction() {
    if (this.#isRunning) {
      const stop = button({ icon: "stop", label: t("composer.stop"), class: "action is-stop", onclick: () => this.#stop(stop) });
      return stop;
    }
    const send = button({ icon: "send", label: t("composer.send"), class: "action", onclick: () => this.#send() });
    return send;
  }

  #drawPicker() {
    this.opener = button({ icon: "template", label: t("templates.button"), text: t("templates.button") });
    hangPicker(this.opener, this.templates);
    return this.opener;
  }

  /** How much of the model's memory the last answer needed. */
  #drawContext() {
    const all = this.status.current?.model?.context_length;
    const receipt = this.chat.messages.findLast(({ receipt }) => receipt)?.receipt;
    this.context.hidden = !all || !receipt;
    if (!all || !receipt) return;
    const used = Math.min(all, receipt.prompt_tokens + receipt.completion_tokens);
    const meter = h("span", { class: "meter" });
    meter.style.setProperty("--done", `${(100 * used) / all}%`);
    const label = t("composer.context", { used: number(used), all: number(all) });
    this.context.setAttribute("aria-label", label);
    this.context.title = label;
    fill(this.context, meter, `${short(used)}/${short(all)}`);
  }

  async #send() {
    if (this.#isRunning && this.text.value.trim()) this.#showFault(t("composer.wait"));
    if (this.#isRunning || this.#isSending) return;
    const text = this.text.value;
    if (!text.trim() || !this.templates.isComplete()) return;
    this.#setSending(true);
    this.#showFault("");
    const key = this.key;
    try {
      const { isRefused } = await this.chat.ask(text, this.templates.answer());
      sessionStorage.removeItem(key);
      if (isRefused) this.#take(text);
      else if (this.text.value === text) this.#take("");
    } catch (error) {
      this.#isUnsent = error.status === 0;
      this.#showFault(this.#isUnsent ? t("composer.unsent") : error.message);
      this.status.check();
    }
    this.#setSending(false);
  }

  /** @param {boolean} isSending */
  #setSending(isSending) {
    this.#isSending = isSending;
    this.text.readOnly = isSending;
    this.#count();
  }

  /** @param {HTMLButtonElement} stop */
  async #stop(stop) {
    stop.disabled = true;
    await this.chat.stop();
    stop.disabled = false;
  }

  /** @param {KeyboardEvent} event */
  #onKey(event) {
    // While an input method composes, Enter picks a word. Safari ends the composition first and tells it by 229 only.
    if (event.isComposing || event.keyCode === 229) return;
    if (event.key === "Enter" && !event.shiftKey) {
      event.preventDefault();
      this.#send();
    }
    if (event.key === "/" && !this.text.value && !this.chat.conversation && !event.ctrlKey && !event.metaKey) {
      event.preventDefault();
      this.#isSlashed = true;
      this.opener?.click();
    }
  }

  #onStatus() {
    this.#drawContext();
    if (this.#isUnsent && this.status.isReachable) this.#showFault("");
  }

  #onInput() {
    sessionStorage.setItem(this.key, this.text.value);
    this.#showFault("");
    this.#grow();
    this.#count();
  }

  /** @param {string} text */
  #take(text) {
    this.text.value = text;
    this.#onInput();
    this.focus();
  }

  /** As high as its text, up to what the style sheet allows. */
  #grow() {
    this.text.style.height = "auto";
    this.text.style.height = `${this.text.scrollHeight}px`;
  }

  #count() {
    const length = [...this.text.value].length;
    this.counter.textContent = length < COUNTED_FROM ? "" : t("composer.counter", { n: number(length), limit: number(LIMIT) });
    this.counter.classList.toggle("is-over", length > LIMIT);
    this.action.classList.toggle("is-idle", !this.#isRunning && (!this.text.value.trim() || this.#isSending));
  }

  /** @param {string} words */
  #showFault(words) {
    this.fault.textContent = words;
    this.fault.hidden = !words;
    this.#isUnsent &&= Boolean(words);
  }

  /**
   * A press beside the text, but within the box, means the text.
   * @param {PointerEvent} event
   */
  #focusFromMargin(event) {
    if (event.target !== this.box && event.target !== this.foot) return;
    event.preventDefault();
    this.text.focus();
  }
}

/**
 * 1240 → 1.2k
 * @param {number} tokens
 */
function short(tokens) {
  return tokens < 1000 ? String(tokens) : `${(tokens / 1000).toFixed(1).replace(".0", "")}k`;
}
