/** The list of conversations: grouped by day, searched by title, renamed in place, deleted with an undo. */

import { api } from "./api.js";
import { addressOf } from "./chat.js";
import { button, fill, h } from "./dom.js";
import { t } from "./i18n.js";
import { hangPopover } from "./popover.js";
import { showToast } from "./toast.js";

/** @typedef {import("./api.js").Conversation} Conversation */

const SEARCH_PAUSE_MS = 200;
const DAY_MS = 24 * 3600 * 1000;
const phone = matchMedia("(max-width: 760px)");

export class Sidebar {
  /** @type {Conversation[]} */
  #conversations = [];
  #hasMore = false;
  #query = "";
  /** Counts requests, so that a slow answer to an earlier one is not shown. */
  #request = 0;

  /**
   * @param {HTMLElement} root
   * @param {import("./chat.js").Chat} chat
   * @param {import("./sharing.js").Sharing} sharing
   * @param {HTMLElement} foot
   */
  constructor(root, chat, sharing, foot) {
    this.root = root;
    this.chat = chat;
    this.sharing = sharing;
    this.foot = foot;
    this.list = h("div", { class: "conversation-list" });
    this.scrim = h("div", { class: "scrim", onclick: () => this.close() });
    root.setAttribute("role", "navigation");
    root.after(this.scrim);
    phone.addEventListener("change", () => this.close());
    document.addEventListener("keydown", (event) => this.#onKey(event));
    this.draw();
    this.close();
  }

  /** Draw everything, in the present language. */
  draw() {
    this.root.setAttribute("aria-label", t("sidebar.label"));
    const skip = h("a", { class: "skip", href: "#haina-message" }, t("app.skip"));
    skip.addEventListener("click", (event) => {
      event.preventDefault();
      document.getElementById("haina-message")?.focus();
    });
    const fresh = button({ icon: "plus", label: t("sidebar.new"), onclick: () => this.#go(null) });
    const hide = button({ icon: "close", label: t("sidebar.close"), class: "only-phone", onclick: () => this.close() });
    const brand = h("a", { class: "brand", href: "/", onclick: (/** @type {MouseEvent} */ event) => this.#follow(event, null) }, t("app.brand"));
    fill(this.root, skip, h("div", { class: "sidebar-head" }, brand, fresh, hide), this.#drawSearch(), this.list, this.foot);
    this.#drawList();
  }

  /** Read the list again. */
  async refresh() {
    const request = ++this.#request;
    const answer = await api.conversations({ query: this.#query }).catch(() => null);
    if (!answer || request !== this.#request) return;
    this.#conversations = answer.conversations;
    this.#hasMore = answer.more;
    // A title that is being typed and a menu that is open are not taken away.
    if (!this.list.querySelector("input, :popover-open")) this.#drawList();
  }

  /** Mark the conversation that is open. */
  mark() {
    this.#drawList();
  }

  /** Open the drawer of the phone. */
  open() {
    this.root.classList.add("is-open");
    this.#setInert({ list: false, page: true });
    this.root.querySelector("button")?.focus();
  }

  /** Close the drawer of the phone; on a wide screen there is none. */
  close() {
    const wasOpen = this.root.classList.contains("is-open");
    this.root.classList.remove("is-open");
    this.#setInert({ list: phone.matches, page: false });
    if (wasOpen) /** @type {HTMLElement | null} */ (document.querySelector(".thread-head button"))?.focus();
  }

  /**
   * Only one of the two can be reached while the drawer is open, or is closed.
   * @param {{list: boolean, page: boolean}} isInert
   */
  #setInert({ list, page }) {
    this.root.inert = list;
    for (const part of /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll("#haina-thread, #haina-composer"))) part.inert = page;
  }

  #drawSearch() {
    const field = h("input", { type: "search", class: "search-field", placeholder: t("sidebar.search"), "aria-label": t("sidebar.search") });
    field.value = this.#query;
    /** @type {ReturnType<typeof setTimeout>} */
    let pause;
    field.addEventListener("input", () => {
      this.#query = field.value.trim();
      clearTimeout(pause);
      pause = setTimeout(() => this.refresh(), SEARCH_PAUSE_MS);
    });
    const keys = h("kbd", { "aria-hidden": "true" }, navigator.platform.startsWith("Mac") ? "⌘K" : "Ctrl K");
    return h("label", { class: "search" }, field, keys);
  }

  #drawList() {
    if (!this.#conversations.length) {
      const words = this.#query ? t("sidebar.none", { query: this.#query }) : t("sidebar.empty");
      fill(this.list, h("p", { class: "muted" }, words));
      return;
    }
    const groups = [...groupByDay(this.#conversations)].map(([name, conversations]) =>
      h("section", {}, h("h2", {}, t(`sidebar.${name}`)), h("ul", {}, ...conversations.map((one) => this.#drawItem(one)))),
    );
    const more = this.#hasMore && h("button", { type: "button", class: "link-button more", onclick: () => this.#readMore() }, t("sidebar.more"));
    const focused = this.list.contains(document.activeElement) && document.activeElement?.closest("li")?.dataset.id;
    fill(this.list, ...groups, more);
    if (focused) /** @type {HTMLElement | null} */ (this.list.querySelector(`[data-id="${CSS.escape(focused)}"] a`))?.focus();
  }

  /** @param {Conversation} conversation */
  #drawItem(conversation) {
    const title = conversation.title || t("sidebar.untitled");
    const isOpen = conversation.id === this.chat.conversation?.id;
    const link = h(
      "a",
      {
        href: addressOf(conversation.id),
        title,
        dir: "auto",
        "aria-current": isOpen ? "page" : null,
        onclick: (/** @type {MouseEvent} */ event) => this.#follow(event, conversation.id),
      },
      title,
    );
    const item = h("li", { class: isOpen ? "is-open" : "", "data-id": conversation.id }, link);
    const menu = button({ icon: "more", label: t("sidebar.menu", { title }) });
    item.append(menu);
    hangPopover(menu, {
      label: t("sidebar.menu", { title }),
      class: "menu",
      content: (close) => [
        button({ icon: "rename", label: t("sidebar.rename"), text: t("sidebar.rename"), onclick: () => (close(), this.#rename(item, conversation)) }),
        button({ icon: "share", label: this.sharing.label, text: this.sharing.label, onclick: () => (close(), this.sharing.open(conversation)) }),
        button({ icon: "delete", label: t("sidebar.delete"), text: t("sidebar.delete"), class: "is-danger", onclick: () => (close(), this.#remove(conversation)) }),
      ],
    });
    return item;
  }

  async #readMore() {
    const before = this.#conversations.at(-1)?.updated_at;
    const answer = await api.conversations({ query: this.#query, before }).catch((error) => void showToast(error.message));
    if (!answer) return;
    const known = new Set(this.#conversations.map(({ id }) => id));
    this.#conversations = [...this.#conversations, ...answer.conversations.filter(({ id }) => !known.has(id))];
    this.#hasMore = answer.more;
    this.#drawList();
  }

  /**
   * Type a new title in place: Enter and leaving the field keep it, Escape does not.
   * @param {HTMLLIElement} item
   * @param {Conversation} conversation
   */
  #rename(item, conversation) {
    const field = h("input", { class: "rename", "aria-label": t("sidebar.title"), maxlength: "200" });
    field.value = conversation.title;
    let isDone = false;
    let refused = "";
    /** @param {boolean} isKept */
    const end = async (isKept) => {
      if (isDone) return;
      isDone = true;
      const title = field.value.trim();
      if (isKept && title && title !== conversation.title) {
        const renamed = await api.rename(conversation.id, title).catch((error) => void showToast(error.message));
        if (!renamed) {
          isDone = false; // what was typed stays, to be mended; leaving the field then lets it go
          refused = title;
          field.focus();
          return;
        }
        this.#conversations = this.#conversations.map((one) => (one.id === renamed.id ? renamed : one));
        this.chat.renamed(renamed);
      }
      this.#drawList();
    };
    field.addEventListener("keydown", (event) => {
      event.stopPropagation();
      if (event.isComposing || event.keyCode === 229) return;
      if (event.key === "Enter") end(true);
      if (event.key === "Escape") end(false);
    });
    field.addEventListener("blur", () => end(field.value.trim() !== refused));
    fill(item, field);
    field.focus();
    field.select();
  }

  /** @param {Conversation} conversation */
  async #remove(conversation) {
    const isOpen = conversation.id === this.chat.conversation?.id;
    const isDone = await api.remove(conversation.id).then(() => true, (error) => void showToast(error.message));
    if (!isDone) return;
    if (isOpen) this.chat.open(null);
    this.refresh();
    const undo = async () => {
      const restored = await api.restore(conversation.id).catch((error) => void showToast(error.message));
      if (!restored) return;
      this.refresh();
      if (isOpen) this.chat.open(conversation.id);
    };
    const title = conversation.title || t("sidebar.untitled");
    showToast(t("sidebar.deleted", { title }), { label: t("sidebar.undo"), run: undo });
  }

  /**
   * Follow a link of ours without loading the page; another tab or window is the browser's business.
   * @param {MouseEvent} event
   * @param {string | null} id
   */
  #follow(event, id) {
    if (event.metaKey || event.ctrlKey || event.shiftKey || event.button !== 0) return;
    event.preventDefault();
    this.#go(id);
  }

  /** @param {string | null} id */
  #go(id) {
    this.close();
    this.chat.open(id);
    if (!phone.matches) this.chat.composer.focus();
  }

  /** @param {KeyboardEvent} event */
  #onKey(event) {
    if (event.key === "Escape" && this.root.classList.contains("is-open") && !this.root.querySelector(":popover-open")) this.close();
    if (event.key.toLowerCase() === "k" && (event.ctrlKey || event.metaKey) && !event.shiftKey && !event.altKey) {
      event.preventDefault();
      if (phone.matches) this.open();
      const field = /** @type {HTMLInputElement | null} */ (this.root.querySelector(".search-field"));
      field?.focus();
      field?.select();
    }
  }
}

/**
 * The conversations by the reader's own calendar days, in the order given.
 * @param {Conversation[]} conversations
 * @returns {Map<string, Conversation[]>}
 */
function groupByDay(conversations) {
  const today = new Date().setHours(0, 0, 0, 0);
  /** @type {Map<string, Conversation[]>} */
  const groups = new Map();
  for (const conversation of conversations) {
    const days = Math.round((today - new Date(conversation.updated_at).setHours(0, 0, 0, 0)) / DAY_MS);
    const name = days <= 0 ? "today" : days === 1 ? "yesterday" : days <= 7 ? "week" : "earlier";
    groups.set(name, [...(groups.get(name) ?? []), conversation]);
  }
  return groups;
}
