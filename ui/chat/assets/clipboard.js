/** Copying, with a tick on the button that was pressed. */

import { icon } from "./icons.js";
import { t } from "./i18n.js";
import { announce, showToast } from "./toast.js";

const TICK_MS = 1500;

/**
 * Copy a text. Works on plain http too, where the clipboard API is missing.
 * @param {string} text
 * @param {{button: HTMLElement}} pressed
 */
export async function copyText(text, { button }) {
  const isCopied = navigator.clipboard ? await navigator.clipboard.writeText(text).then(() => true, () => false) : copyBySelection(text, button.closest("dialog") ?? document.body);
  if (!isCopied) {
    showToast(t("message.copy_failed"));
    return;
  }
  announce(t("message.copied"));
  const old = button.querySelector("svg");
  const tick = icon("check");
  old?.replaceWith(tick);
  setTimeout(() => old && tick.replaceWith(old), TICK_MS);
}

/**
 * @param {string} text
 * @param {HTMLElement} place an open dialog lets nothing outside of it be selected
 * @returns {boolean}
 */
function copyBySelection(text, place) {
  const area = document.createElement("textarea");
  area.value = text;
  area.className = "off-screen";
  place.append(area);
  area.select();
  const isCopied = document.execCommand("copy");
  area.remove();
  return isCopied;
}
