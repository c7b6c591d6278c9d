/** One message as it is drawn: a question at the right, an answer as plain text on the page. */

import { appendText, setBlock, setBlocks } from "./blocks.js";
import { copyText } from "./clipboard.js";
import { button, fill, h } from "./dom.js";
import { number, t } from "./i18n.js";
import { hangPopover } from "./popover.js";
import { drawReview } from "./review.js";

/** @typedef {import("./api.js").Message} Message */
/**
 * @typedef {object} MessageActions what a reader may do with a message
 * @property {(id: string, how: "again" | "continue") => void} repeat
 * @property {(siblingId: string) => void} showSibling
 */

/**
 * Draw a question.
 * @param {Message} message
 * @param {MessageActions} actions
 * @returns {HTMLElement}
 */
export function drawQuestion(message, actions) {
  const isRefused = message.state === "blocked";
  const text = isRefused ? t("message.removed") : message.text;
  const bubble = h("div", { class: `question-text ${isRefused ? "is-refused" : ""}`, dir: "auto" }, text);
  const tools = h("div", { class: "tools" }, drawSiblings(message, actions));
  if (!isRefused) tools.append(copyButton(message.text));
  const review = message.review && drawReview(message.review);
  return h("article", { class: "message question", "data-id": message.id, "aria-label": t("message.question") }, bubble, tools, review);
}

/** An answer: drawn at once when it is complete, piece by piece while it runs. */
export class Answer {
  /**
   * @param {Message} message
   * @param {MessageActions} actions
   */
  constructor(message, actions) {
    this.actions = actions;
    this.progress = h("div", { class: "progress-line" });
    this.content = h("div", { class: "answer-text", dir: "auto" });
    this.foot = h("div", { class: "answer-foot" });
    this.element = h(
      "article",
      { class: "message answer", "data-id": message.id, "aria-label": t("message.answer") },
      this.content,
      this.progress,
      this.foot,
    );
    this.finish(message);
  }

  /** Forget what is shown: the events tell everything from the start. */
  start() {
    fill(this.content);
    fill(this.foot);
    // A screen reader hears the answer once, at its end, and not token by token.
    this.content.setAttribute("aria-live", "off");
    this.element.setAttribute("aria-busy", "true");
    this.say(t("turn.sending"));
  }

  /**
   * The quiet line where the next text will be.
   * @param {string} words
   * @param {number | null} [progress] 0 to 1, drawn as a thin bar
   */
  say(words, progress = null) {
    const dots = h("span", { class: "pulse", "aria-hidden": "true" });
    fill(this.progress, progress === null && dots, h("span", {}, words), progress !== null && drawBar(progress));
  }

  /** The model has begun. */
  started() {
    if (!this.content.childElementCount) this.say(t("turn.thinking"));
  }

  /** @param {boolean} isBroken */
  broken(isBroken) {
    if (isBroken) this.say(t("turn.reconnecting"));
    else if (this.content.childElementCount) fill(this.progress);
  }

  /** @param {number} index @param {string} html */
  block(index, html) {
    fill(this.progress);
    setBlock(this.content, index, html);
  }

  /** @param {number} index @param {string} text */
  text(index, text) {
    appendText(this.content, index, text);
  }

  /**
   * Show a message as it was saved.
   * @param {Message} message
   */
  finish(message) {
    this.element.removeAttribute("aria-busy");
    this.content.removeAttribute("aria-live");
    this.element.dataset.state = message.state;
    this.element.classList.toggle("is-prepared", message.is_prepared);
    fill(this.progress);
    setBlocks(this.content, message.blocks);
    const review = message.review && drawReview(message.review);
    fill(this.foot, drawNotice(message, this.actions), review, message.state !== "running" && this.#tools(message));
  }

  /** @param {Message} message */
  #tools(message) {
    const tools = h("div", { class: "tools" }, drawSiblings(message, this.actions));
    const hasText = message.blocks.length > 0;
    // What was written in advance is no model's: it goes without the label.
    const label = message.is_prepared ? "" : `\n\n${t("message.copy_label")}`;
    if (hasText) tools.append(copyButton(message.text + label));
    if (message.actions.includes("again") && wayOn(message) !== "again") tools.append(repeatButton(message, "again", this.actions));
    if (message.actions.includes("continue") && wayOn(message) !== "continue") tools.append(repeatButton(message, "continue", this.actions));
    const receipt = message.receipt;
    if (receipt) {
      const info = button({ icon: "receipt", label: t("receipt.label") });
      hangPopover(info, { label: t("receipt.label"), class: "receipt", content: () => [drawReceipt(receipt)] });
      tools.append(info);
    }
    if (hasText && !message.is_prepared) tools.append(h("span", { class: "generated" }, t("message.generated")));
    return tools;
  }
}

/**
 * Whether the answer ended otherwise than by itself; one that was cut by its length is complete with a notice.
 * @param {Message} message
 */
function isHindered(message) {
  return message.state !== "running" && (message.state !== "complete" || message.notice !== null);
}

/**
 * The one button beside the notice of a hindered answer.
 * @param {Message} message
 * @returns {"again" | "continue" | null}
 */
function wayOn(message) {
  if (!isHindered(message)) return null;
  return message.actions.includes("continue") ? "continue" : message.actions.includes("again") ? "again" : null;
}

/**
 * @param {Message} message
 * @param {MessageActions} actions
 */
function drawNotice(message, actions) {
  if (!isHindered(message)) return null;
  const words = message.notice ?? t(message.state === "blocked" ? "message.blocked" : "message.failed");
  const how = wayOn(message);
  const notice = h("div", { class: `notice is-${message.state}` }, h("span", {}, words));
  if (how) notice.append(h("button", { type: "button", class: "link-button", onclick: () => actions.repeat(message.id, how) }, t(`message.${how}`)));
  return notice;
}

/**
 * @param {Message} message
 * @param {"again" | "continue"} how
 * @param {MessageActions} actions
 */
function repeatButton(message, how, actions) {
  return button({ icon: how, label: t(`message.${how}`), onclick: () => actions.repeat(message.id, how) });
}

/** @param {string} text */
function copyButton(text) {
  const copy = button({ icon: "copy", label: t("message.copy"), onclick: () => copyText(text, { button: copy }) });
  return copy;
}

/**
 * ‹ 2/3 ›, where there is more than one version.
 * @param {Message} message
 * @param {MessageActions} actions
 */
function drawSiblings({ id, siblings }, actions) {
  if (siblings.length < 2) return null;
  const at = siblings.indexOf(id);
  /** @param {"left" | "right"} side @param {string} label @param {number} target */
  const step = (side, label, target) => {
    const arrow = button({ icon: side, label, onclick: () => actions.showSibling(siblings[target]) });
    arrow.disabled = target < 0 || target >= siblings.length;
    return arrow;
  };
  const label = t("message.siblings", { n: at + 1, all: siblings.length });
  return h(
    "span",
    { class: "siblings", role: "group", "aria-label": label },
    step("left", t("message.previous"), at - 1),
    h("span", { class: "siblings-count" }, `${at + 1}/${siblings.length}`),
    step("right", t("message.next"), at + 1),
  );
}

/** @param {import("./api.js").Receipt} receipt */
function drawReceipt(receipt) {
  /** @param {number | null} seconds */
  const s = (seconds) => (seconds === null ? "–" : number(Math.round(seconds * 100) / 100));
  const sampling = [["temperature", receipt.temperature], ["top_p", receipt.top_p], ["top_k", receipt.top_k]];
  const tokens = { prompt: number(receipt.prompt_tokens), completion: number(receipt.completion_tokens) };
  const times = { total: s(receipt.total_s), first: s(receipt.first_token_s), queued: s(receipt.queued_s) };
  const rows = [
    ["model", receipt.model],
    ["revision", receipt.model_revision],
    ["quantization", receipt.quantization],
    ["template", receipt.template],
    ["tokens", t("receipt.tokens_value", tokens)],
    ["times", t("receipt.times_value", times)],
    ["sampling", sampling.filter(([, value]) => value !== null).map(([name, value]) => `${name} ${value}`).join(", ")],
    ["seed", receipt.seed],
    ["policy", receipt.policy],
    ["finish", receipt.finish_reason],
  ];
  const shown = rows.filter(([, value]) => value !== null && value !== "");
  return h("dl", {}, ...shown.map(([name, value]) => [h("dt", {}, t(`receipt.${name}`)), h("dd", {}, String(value))]).flat());
}

/**
 * A thin bar.
 * @param {number} progress 0 to 1
 */
export function drawBar(progress) {
  const percent = Math.round(progress * 100);
  const bar = h("span", { class: "bar", role: "progressbar", "aria-valuenow": percent, "aria-valuemin": 0, "aria-valuemax": 100 });
  bar.style.setProperty("--done", `${percent}%`);
  return bar;
}
