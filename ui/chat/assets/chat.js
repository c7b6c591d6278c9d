/** What happens on the page: opening, asking, stopping, repeating. Holds the open conversation; the views only draw. */

import { api, Refused } from "./api.js";
import { t } from "./i18n.js";
import { announce, showToast } from "./toast.js";
import { follow } from "./turn.js";

/** @typedef {import("./api.js").Conversation} Conversation */
/** @typedef {import("./api.js").Message} Message */
/** @typedef {import("./api.js").Turn} Turn */
/** @typedef {import("./thread.js").Thread} Thread */
/** @typedef {import("./composer.js").Composer} Composer */

const SPOKEN_CHARACTERS = 600;

/**
 * Dispatches `opened` when another conversation is shown, `listed` when the list of conversations is out of date, and
 * `ended` at the end of a turn.
 */
export class Chat extends EventTarget {
  /** Given by `attach`: the views need the chat first. */
  thread = /** @type {Thread} */ (/** @type {unknown} */ (null));
  composer = /** @type {Composer} */ (/** @type {unknown} */ (null));
  /** @type {Conversation | null} */
  conversation = null;
  /** @type {Message[]} */
  messages = [];
  /** @type {string | null} the answer that is being written */
  runningId = null;
  /** @type {() => void} */
  #leave = () => {};
  /** @type {() => void} */
  #isOpen = () => {};
  /** Until what the address names is open: a question asked before that would be wiped from view. */
  #whenOpen = new Promise((resolve) => (this.#isOpen = () => resolve(undefined)));
  /** Counts openings, so that a slow answer to an earlier one is not shown. */
  #opening = 0;

  /**
   * Give it its views.
   * @param {{thread: Thread, composer: Composer}} views
   */
  attach({ thread, composer }) {
    this.thread = thread;
    this.composer = composer;
  }

  /** Open what the address names. */
  openFromAddress() {
    return this.open(new URLSearchParams(location.search).get("c"), { isNewAddress: false }).finally(this.#isOpen);
  }

  /**
   * Open a conversation, or the empty page for null.
   * @param {string | null} id
   * @param {{isNewAddress?: boolean}} [options] whether the browser's Back shall lead to where we are now
   */
  async open(id, { isNewAddress = true } = {}) {
    const opening = ++this.#opening;
    this.#quit();
    if (isNewAddress) history.pushState(null, "", addressOf(id));
    if (id === null) {
      this.#showEmpty();
      return;
    }
    if (id !== this.conversation?.id) this.thread.showLoading();
    try {
      const thread = await api.conversation(id);
      if (opening === this.#opening) this.#show(thread);
    } catch (error) {
      if (opening !== this.#opening) return;
      if (error.status === 404) history.replaceState(null, "", addressOf(null));
      this.#showEmpty(error.status === 404 ? t("thread.unknown") : error.message);
    }
  }

  /** Look whether another tab or device has gone on with the open conversation. */
  async refresh() {
    const { conversation, runningId } = this;
    if (!conversation || runningId) return;
    const thread = await api.conversation(conversation.id).catch(() => null);
    const isStill = thread && this.conversation?.id === conversation.id && !this.runningId;
    const shown = this.messages.at(-1);
    const saved = thread?.messages.at(-1);
    const isNewer = saved?.id !== shown?.id || saved?.state !== shown?.state || reviewsIn(thread) !== reviewsIn(this);
    if (isStill && isNewer) this.#show(thread);
  }

  /**
   * Ask. Throws a Refused, and nothing has changed, when the server does not take the question.
   * @param {string} text
   * @param {import("./api.js").Question["template"]} template
   * @returns {Promise<{isRefused: boolean}>} whether the filter refused it
   */
  async ask(text, template) {
    await this.#whenOpen;
    const opening = this.#opening;
    const isFirst = this.conversation === null;
    const turn = await api.ask({
      conversation_id: this.conversation?.id ?? null,
      parent_id: this.messages.at(-1)?.id ?? null,
      text,
      template: isFirst ? template : null,
    });
    this.#listed();
    if (opening !== this.#opening) return { isRefused: false }; // The reader has gone elsewhere; the answer goes on.
    if (isFirst) history.pushState(null, "", addressOf(turn.conversation.id));
    this.#take(turn);
    return { isRefused: turn.answer.state === "blocked" };
  }

  /** Stop the running answer; its last event then ends it. */
  async stop() {
    if (this.runningId) await this.#orSay(api.stop(this.runningId));
  }

  /**
   * Answer again, or go on with a cut answer.
   * @param {string} id
   * @param {"again" | "continue"} how
   */
  async repeat(id, how) {
    const turn = await this.#orSay(api.repeat(id, how));
    if (turn) this.#take(turn);
  }

  /**
   * Show another version of a question or an answer.
   * @param {string} siblingId
   */
  async showSibling(siblingId) {
    if (!this.conversation) return;
    const thread = await this.#orSay(api.showBranch(this.conversation.id, siblingId));
    if (!thread) return;
    this.#quit();
    this.#show(thread);
  }

  /**
   * The open conversation has another title.
   * @param {Conversation} conversation
   */
  renamed(conversation) {
    if (this.conversation?.id !== conversation.id) return;
    this.conversation = { ...this.conversation, title: conversation.title };
    this.thread.drawHead(this.conversation);
  }

  /** @param {import("./api.js").Thread} thread */
  #show({ conversation, messages }) {
    this.conversation = conversation;
    this.messages = messages;
    this.thread.show(conversation, messages);
    this.#opened();
    const last = messages.at(-1);
    if (last?.state === "running") this.#follow(last.id);
  }

  /** @param {string} [note] */
  #showEmpty(note) {
    this.conversation = null;
    this.messages = [];
    this.thread.showEmpty(note);
    this.#opened();
  }

  #opened() {
    this.composer.open(this);
    this.dispatchEvent(new Event("opened"));
  }

  /** @param {Turn} turn */
  #take({ conversation, question, answer }) {
    this.#quit();
    const at = this.messages.findIndex((message) => message.id === question.id);
    const before = at < 0 ? this.messages : this.messages.slice(0, at);
    this.messages = [...before, question, answer];
    const isFirst = this.conversation === null;
    this.conversation = conversation;
    this.thread.addTurn(question, answer);
    this.thread.drawHead(conversation);
    if (isFirst) this.#opened();
    if (answer.state === "running") this.#follow(answer.id);
    else announce(`${answer.text} ${answer.notice ?? t("message.blocked")}`);
  }

  /** @param {string} turnId */
  #follow(turnId) {
    const answer = this.thread.answers.get(turnId);
    if (!answer) return;
    this.runningId = turnId;
    this.composer.setRunning(true);
    answer.start();
    this.#leave = follow(turnId, {
      waiting: (words, progress) => answer.say(words, progress),
      started: () => answer.started(),
      block: (index, html) => answer.block(index, html),
      text: (index, text) => answer.text(index, text),
      broken: (isBroken) => answer.broken(isBroken),
      isOver: () => this.#isOver(turnId),
      end: ({ message, title }) => {
        const shown = this.messages.find(({ id }) => id === turnId);
        // A turn knows nothing of the other versions of its answer.
        const whole = { ...message, siblings: shown?.siblings ?? message.siblings };
        answer.finish(whole);
        this.#end(whole, title);
      },
    });
  }

  /**
   * @param {Message} message
   * @param {string | null} title
   */
  #end(message, title) {
    this.runningId = null;
    this.messages = this.messages.map((shown) => (shown.id === message.id ? message : shown));
    if (title && this.conversation) this.renamed({ ...this.conversation, title });
    this.composer.open(this);
    const words = message.notice ?? t(message.state === "complete" ? "message.ready" : "message.ended");
    announce(`${words} ${message.text.slice(0, SPOKEN_CHARACTERS)}`);
    this.#listed();
    this.dispatchEvent(new Event("ended"));
  }

  /**
   * The line to a turn stays broken: see what became of it.
   * @param {string} turnId
   */
  async #isOver(turnId) {
    const { conversation } = this;
    if (!conversation || this.runningId !== turnId) return true;
    try {
      const thread = await api.conversation(conversation.id);
      if (this.runningId !== turnId) return true;
      const isRunning = thread.messages.some((message) => message.id === turnId && message.state === "running");
      if (isRunning) return false;
      this.#quit();
      this.#show(thread);
      return true;
    } catch (error) {
      return error instanceof Refused && error.status === 404;
    }
  }

  /** Stop reading the running answer; it goes on without us. */
  #quit() {
    this.#leave();
    this.#leave = () => {};
    this.runningId = null;
    this.composer.setRunning(false);
  }

  #listed() {
    this.dispatchEvent(new Event("listed"));
  }

  /**
   * Wait for something that the reader asked for, and say so where it does not succeed.
   * @template T
   * @param {Promise<T>} promise
   * @returns {Promise<T | null>}
   */
  async #orSay(promise) {
    try {
      return await promise;
    } catch (error) {
      showToast(error.message);
      return null;
    }
  }
}

/**
 * How far the reviews are, to be compared.
 * @param {{messages: Message[]} | null} thread
 */
function reviewsIn(thread) {
  return JSON.stringify(thread?.messages.map(({ review }) => review?.state));
}

/** @param {string | null} id */
export function addressOf(id) {
  return id === null ? "/" : `/?c=${encodeURIComponent(id)}`;
}
