/** What the filter refused can be looked at by a person: the button that asks for it, and what became of it. */

import { api } from "./api.js";
import { fill, h } from "./dom.js";
import { t } from "./i18n.js";
import { hangPopover } from "./popover.js";
import { announce } from "./toast.js";

/** @typedef {import("./api.js").Review} Review */

const MAX_COMMENT = 1000;

/**
 * The line under what was refused.
 * @param {Review} review
 * @returns {HTMLElement}
 */
export function drawReview(review) {
  const line = h("div", { class: "review" });
  const pause = review.pause && h("p", { class: "review-pause" }, review.pause);
  const draw = () => fill(line, pause || null, drawState(review), drawAsk(review, draw), drawNumber(review));
  draw();
  return line;
}

/** @param {Review} review */
function drawState({ state, note }) {
  if (state === null) return null;
  const words = h("span", { class: `review-state is-${state}` }, t(`review.${state}`));
  return [words, note && h("blockquote", { class: "review-note", dir: "auto" }, note)];
}

/** @param {Review} review */
function drawNumber({ short }) {
  return h("span", { class: "review-number" }, t("review.number", { id: short }));
}

/**
 * @param {Review} review
 * @param {() => void} redraw
 */
function drawAsk(review, redraw) {
  if (!review.can_ask) return null;
  const open = h("button", { type: "button", class: "link-button" }, t("review.ask"));
  hangPopover(open, { label: t("review.ask"), class: "review-form", content: (close) => [drawForm(review, close, redraw)] });
  // A popover stands beside its button, so the two need a place of their own.
  return h("span", {}, open);
}

/**
 * @param {Review} review
 * @param {() => void} close
 * @param {() => void} redraw
 */
function drawForm(review, close, redraw) {
  const comment = h("textarea", { class: "field", rows: "4", maxlength: MAX_COMMENT });
  const said = h("p", { class: "is-danger", role: "alert", hidden: true });
  const send = h("button", { class: "link-button" }, t("review.send"));
  const form = h(
    "form",
    {},
    h("p", { class: "muted" }, t("review.hint")),
    h("label", {}, h("span", {}, t("review.comment")), comment),
    said,
    h("div", { class: "review-form-foot" }, send, h("button", { type: "button", class: "text-button", onclick: close }, t("review.cancel"))),
  );
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    send.disabled = true;
    try {
      Object.assign(review, await api.appeal(review.decision_id, comment.value));
      close();
      redraw();
      announce(t("review.open"));
    } catch (error) {
      said.hidden = false;
      said.textContent = error.message;
      send.disabled = false;
    }
  });
  return form;
}
