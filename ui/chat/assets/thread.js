/** The open conversation: its header, its messages, and the empty page before the first one. */

import { button, fill, h } from "./dom.js";
import { t } from "./i18n.js";
import { Answer, drawQuestion } from "./message.js";

/** @typedef {import("./api.js").Conversation} Conversation */
/** @typedef {import("./api.js").Message} Message */
/** @typedef {import("./message.js").MessageActions} MessageActions */

const AT_END_PX = 48;

export class Thread {
  /**
   * @param {HTMLElement} root
   * @param {{actions: MessageActions, onMenu: () => void, onNew: () => void, model: HTMLElement, banner: HTMLElement,
   *   starters: HTMLElement, sharing: import("./sharing.js").Sharing}} parts
   */
  constructor(root, parts) {
    this.parts = parts;
    /** @type {Map<string, Answer>} */
    this.answers = new Map();
    this.isFollowing = true;
    this.lastTop = 0;
    this.head = h("header", { class: "thread-head" });
    this.column = h("div", { class: "column" });
    this.scroll = h("div", { class: "scroll", role: "region", tabindex: "0" }, this.column);
    this.toEnd = h("div", { class: "to-end" });
    fill(root, this.head, parts.banner, this.scroll, this.toEnd);
    this.scroll.addEventListener("scroll", () => this.#followWhereReaderIs(), { passive: true });
    // Whatever grows – a new block, an opened keyboard – keeps the end in sight, if the reader was there.
    const growth = new ResizeObserver(() => this.isFollowing && this.#jumpToEnd());
    growth.observe(this.column);
    growth.observe(this.scroll);
  }

  /**
   * Show a conversation.
   * @param {Conversation} conversation
   * @param {Message[]} messages
   */
  show(conversation, messages) {
    this.drawHead(conversation);
    this.answers.clear();
    const firstSeen = messages.findIndex((message) => !message.outside_context);
    const drawn = messages.map((message, index) => [index > 0 && index === firstSeen && this.#outsideLine(), this.#draw(message)]);
    fill(this.column, drawn.flat());
    this.#goToEnd();
  }

  /**
   * Show the empty page.
   * @param {string} [note] why it is empty
   */
  showEmpty(note) {
    this.drawHead(null);
    this.answers.clear();
    const welcome = [h("h2", {}, t("empty.heading")), h("p", { class: "muted" }, t("empty.hint"))];
    const reason = note && h("p", { class: "notice", role: "alert" }, note);
    fill(this.column, h("div", { class: "empty" }, reason || null, ...welcome, this.parts.starters));
    this.isFollowing = false;
    this.scroll.scrollTop = 0;
    this.toEnd.hidden = true;
  }

  /** Show that a conversation is on its way. */
  showLoading() {
    this.answers.clear();
    fill(this.column, h("p", { class: "muted loading", role: "status" }, t("thread.loading")));
  }

  /**
   * Show a new turn: after the last message, or from the question on that it repeats.
   * @param {Message} question
   * @param {Message} answer
   * @returns {Answer}
   */
  addTurn(question, answer) {
    const old = this.column.querySelector(`[data-id="${CSS.escape(question.id)}"]`);
    if (old) {
      while (old.nextSibling) old.nextSibling.remove();
      old.replaceWith(this.#draw(question));
    } else {
      this.column.querySelector(".empty")?.remove();
      this.column.append(this.#draw(question));
    }
    this.column.append(this.#draw(answer));
    this.#goToEnd();
    return /** @type {Answer} */ (this.answers.get(answer.id));
  }

  /**
   * Draw the header; null is a conversation that has not begun.
   * @param {Conversation | null} conversation
   */
  drawHead(conversation) {
    const title = conversation ? conversation.title || t("sidebar.untitled") : "";
    const template = conversation?.template;
    this.scroll.setAttribute("aria-label", t("thread.label"));
    document.title = title ? `${title} – ${t("app.title")}` : t("app.title");
    fill(
      this.head,
      button({ icon: "menu", label: t("sidebar.open"), class: "only-phone", onclick: this.parts.onMenu }),
      h(
        "div",
        { class: "thread-name" },
        h("h1", { class: "thread-title", title }, title),
        template && h("span", { class: "template-name" }, t("templates.version", { title: template.title, number: template.number })),
      ),
      conversation && button({ icon: "share", label: this.parts.sharing.label, onclick: () => this.parts.sharing.open(conversation) }),
      this.parts.model,
      button({ icon: "plus", label: t("sidebar.new"), class: "only-phone", onclick: this.parts.onNew }),
    );
    this.#drawToEnd();
  }

  /** @param {Message} message */
  #draw(message) {
    if (message.role === "user") return drawQuestion(message, this.parts.actions);
    const answer = new Answer(message, this.parts.actions);
    this.answers.set(message.id, answer);
    return answer.element;
  }

  #outsideLine() {
    return h("div", { class: "outside", role: "separator" }, h("span", {}, t("thread.outside")));
  }

  #followWhereReaderIs() {
    if (this.toEnd.hidden) return; // The empty page has no end to follow.
    const { scrollHeight, scrollTop, clientHeight } = this.scroll;
    // Only a move upwards is the reader's: text that grew in the meantime also leaves the end behind.
    const isAtEnd = scrollHeight - scrollTop - clientHeight < AT_END_PX;
    this.isFollowing = isAtEnd || (this.isFollowing && scrollTop >= this.lastTop);
    this.lastTop = scrollTop;
    this.toEnd.classList.toggle("is-shown", !this.isFollowing);
  }

  #drawToEnd() {
    fill(this.toEnd, button({ icon: "down", label: t("thread.to_end"), onclick: () => this.#goToEnd() }));
  }

  #goToEnd() {
    this.toEnd.hidden = false;
    this.isFollowing = true;
    this.#jumpToEnd();
    this.toEnd.classList.remove("is-shown");
  }

  #jumpToEnd() {
    this.scroll.scrollTop = this.scroll.scrollHeight;
  }
}
