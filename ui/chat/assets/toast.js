/** Short notes at the foot of the page, and what only a screen reader is told. */

import { button, h } from "./dom.js";
import { t } from "./i18n.js";

const SHOWN_MS = 8000;
/** @type {HTMLElement} */
const shelf = h("div", { class: "toasts", role: "status" });
/** @type {HTMLElement} */
const spoken = h("div", { class: "off-screen", role: "status", "aria-live": "polite" });

/**
 * Put both into the page, once.
 * @param {HTMLElement} above the part of the page that notes stand on
 */
export function mountToasts(above) {
  above.append(shelf, spoken);
}

/**
 * Show a note for eight seconds, or until its button is pressed. A pointer on it holds it.
 * @param {string} words
 * @param {{label: string, run: () => void}} [action]
 */
export function showToast(words, action) {
  const toast = h("div", { class: "toast" }, h("span", {}, words));
  const close = () => toast.remove();
  if (action) {
    const act = () => {
      close();
      action.run();
    };
    toast.append(h("button", { type: "button", class: "link-button", onclick: act }, action.label));
  }
  toast.append(button({ icon: "close", label: t("app.close"), onclick: close }));
  let timer = setTimeout(close, SHOWN_MS);
  toast.addEventListener("pointerenter", () => clearTimeout(timer));
  toast.addEventListener("pointerleave", () => (timer = setTimeout(close, SHOWN_MS)));
  shelf.replaceChildren(toast);
}

/**
 * Say something to a screen reader.
 * @param {string} words
 */
export function announce(words) {
  spoken.textContent = words;
}
