/** The dialog in which a conversation leaves the chat: as a file, or by a link that anybody may read. */

import { api } from "./api.js";
import { copyText } from "./clipboard.js";
import { button, fill, h } from "./dom.js";
import { language, t } from "./i18n.js";
import { showToast } from "./toast.js";

/** @typedef {import("./api.js").Conversation} Conversation */
/** @typedef {import("./api.js").Share} Share */

/** @type {import("./api.js").ExportFormat[]} */
const FORMATS = ["markdown", "json", "text"];
/** @type {[string, number | null][]} */
const TERMS = [["week", 7], ["month", 30], ["ever", null]];

export class Sharing {
  /** Whether this server lets conversations be shared by link; until it said so, no. */
  canShare = false;
  /** Counts openings, so that a slow answer to an earlier one is not shown. */
  #opening = 0;

  constructor() {
    this.body = h("div", { class: "sharing-body" });
    this.dialog = h("dialog", { class: "sharing haina", closedby: "any" }, this.body);
    // A press on the backdrop is one on the dialog itself.
    this.dialog.addEventListener("click", (event) => event.target === this.dialog && this.dialog.close());
    this.dialog.addEventListener("close", () => fill(this.body));
    document.body.append(this.dialog);
  }

  /** @returns {string} what the ways into the dialog are called */
  get label() {
    return t(this.canShare ? "sharing.open" : "sharing.open_export");
  }

  /**
   * Open it for a conversation, or for all of one's links.
   * @param {Conversation | null} conversation
   */
  async open(conversation) {
    const opening = ++this.#opening;
    const title = conversation ? this.label : t("sharing.all");
    this.dialog.setAttribute("aria-label", title);
    this.links = h("div", { class: "links" });
    const close = button({ icon: "close", label: t("app.close"), onclick: () => this.dialog.close() });
    const head = h("div", { class: "sharing-head" }, h("h2", {}, title), close);
    const name = conversation && h("p", { class: "muted sharing-title", dir: "auto" }, conversation.title || t("sidebar.untitled"));
    fill(this.body, head, name, conversation && drawExport(conversation), conversation && this.canShare && this.#drawMake(conversation), this.links);
    if (!this.dialog.open) this.dialog.showModal();
    if (this.canShare || !conversation) await this.#list(conversation, opening);
  }

  /** @param {Conversation} conversation */
  #drawMake(conversation) {
    const options = TERMS.map(([name, days]) => h("option", { value: days ?? "", selected: days === 30 }, t(`sharing.term_${name}`)));
    const term = h("select", { class: "field", id: "haina-share-term" }, ...options);
    const made = h("div", { class: "made", role: "status" });
    const make = h("button", { type: "button", class: "primary" }, t("sharing.make"));
    make.addEventListener("click", async () => {
      make.disabled = true;
      const days = term.value ? Number(term.value) : null;
      const answer = await api.share(conversation.id, days).catch((error) => void fill(made, h("p", { class: "fault", role: "alert" }, error.message)));
      make.disabled = false;
      if (!answer) return;
      fill(made, ...drawMade(location.origin + answer.path));
      made.querySelector("input")?.select();
      this.#list(conversation, this.#opening);
    });
    return h(
      "section",
      {},
      h("h3", {}, t("sharing.link")),
      h("p", { class: "muted" }, t("sharing.explained")),
      h("div", { class: "make" }, h("label", { for: term.id }, t("sharing.term")), term, make),
      made,
    );
  }

  /**
   * Read the links that are open, and show them.
   * @param {Conversation | null} conversation
   * @param {number} opening
   */
  async #list(conversation, opening) {
    const links = /** @type {HTMLElement} */ (this.links);
    const answer = await api.shares(conversation?.id ?? "").catch((error) => void fill(links, h("p", { class: "fault", role: "alert" }, error.message)));
    if (!answer || opening !== this.#opening) return;
    const items = answer.shares.map((/** @type {Share} */ share) => this.#drawLink(share, conversation));
    const heading = h("h3", {}, t("sharing.existing"));
    if (items.length) fill(links, conversation && heading, h("ul", {}, ...items));
    else fill(links, !conversation && h("p", { class: "muted" }, t("sharing.none")));
  }

  /**
   * @param {Share} share
   * @param {Conversation | null} conversation
   */
  #drawLink(share, conversation) {
    const times = t("sharing.made_at", { at: moment(share.created_at) });
    const end = share.expires_at ? t("sharing.ends_at", { at: moment(share.expires_at) }) : t("sharing.ends_never");
    const revoke = h("button", { type: "button", class: "link-button is-danger" }, t("sharing.revoke"));
    const opening = this.#opening;
    revoke.addEventListener("click", async () => {
      revoke.disabled = true;
      // Another tab may have been quicker: the list then says so.
      await api.revokeShare(share.id).catch((error) => error.status === 404 || void showToast(error.message));
      await this.#list(conversation, opening);
    });
    const title = !conversation && h("span", { class: "link-title", dir: "auto" }, share.title || t("sidebar.untitled"));
    return h("li", {}, h("span", { class: "link-words" }, title, h("span", { class: "muted" }, `${times} · ${end}`)), revoke);
  }
}

/** @param {Conversation} conversation */
function drawExport(conversation) {
  const fault = h("p", { class: "fault", role: "alert", hidden: true });
  const buttons = FORMATS.map((format) => {
    const one = h("button", { type: "button", class: "secondary" }, t(`sharing.${format}`));
    one.addEventListener("click", async () => {
      one.disabled = true;
      fault.hidden = true;
      const file = await api.exported(conversation.id, format).catch((error) => {
        fault.textContent = error.message;
        fault.hidden = false;
      });
      one.disabled = false;
      if (file) save(file);
    });
    return one;
  });
  const words = h("p", { class: "muted" }, t("sharing.file_explained"));
  return h("section", {}, h("h3", {}, t("sharing.file")), words, h("div", { class: "formats" }, ...buttons), fault);
}

/** @param {string} address */
function drawMade(address) {
  const field = h("input", { class: "field", readonly: true, "aria-label": t("sharing.link"), value: address });
  field.addEventListener("focus", () => field.select());
  const copy = button({ icon: "copy", label: t("sharing.copy"), onclick: () => copyText(address, { button: copy }) });
  return [h("div", { class: "made-link" }, field, copy), h("p", { class: "muted" }, t("sharing.once"))];
}

/** @param {{name: string, content: Blob}} file */
function save({ name, content }) {
  const address = URL.createObjectURL(content);
  const link = h("a", { href: address, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}

/** @param {string} time */
function moment(time) {
  const options = /** @type {const} */ ({ dateStyle: "medium", timeStyle: "short" });
  return new Intl.DateTimeFormat(language() === "zh" ? "zh-CN" : "en", options).format(new Date(time));
}
