/** A panel that hangs on a button. The browser's own popover closes it on Escape and on a press elsewhere. */

import { fill, h } from "./dom.js";

const GAP_PX = 6;
const MARGIN_PX = 8;

/**
 * Hang a panel on a button; its content is made anew at each opening.
 * @param {HTMLElement} button gets the panel as its next sibling when it opens first
 * @param {{label: string, class?: string, content: (close: () => void) => (import("./dom.js").Child)[]}} options
 */
export function hangPopover(button, { label, class: kind = "", content }) {
  const panel = h("div", { class: `popover ${kind}`, popover: "auto", role: "dialog", "aria-label": label });
  button.setAttribute("aria-haspopup", "dialog");
  button.setAttribute("aria-expanded", "false");
  panel.addEventListener("toggle", (event) => {
    const isOpen = /** @type {ToggleEvent} */ (event).newState === "open";
    button.setAttribute("aria-expanded", String(isOpen));
    if (!isOpen) panel.remove();
  });
  // The press that closes the panel by itself must not open it again.
  let wasOpen = false;
  button.addEventListener("pointerdown", () => (wasOpen = panel.matches(":popover-open")));
  button.addEventListener("click", (event) => {
    event.preventDefault();
    const isOpen = panel.matches(":popover-open");
    if (isOpen) panel.hidePopover();
    if (isOpen || wasOpen) {
      wasOpen = false;
      return;
    }
    fill(panel, content(() => panel.hidePopover()));
    button.after(panel);
    panel.showPopover();
    place(panel, button);
    /** @type {HTMLElement | null} */ (panel.querySelector("input, button, a"))?.focus();
  });
}

/**
 * Below the button where there is room, above it otherwise; never outside the window.
 * @param {HTMLElement} panel
 * @param {HTMLElement} button
 */
function place(panel, button) {
  const at = button.getBoundingClientRect();
  const { width, height } = panel.getBoundingClientRect();
  const isRoomBelow = at.bottom + GAP_PX + height + MARGIN_PX <= innerHeight;
  const top = isRoomBelow ? at.bottom + GAP_PX : Math.max(MARGIN_PX, at.top - GAP_PX - height);
  const isOnRight = at.left + at.width / 2 > innerWidth / 2;
  const left = isOnRight ? at.right - width : at.left;
  panel.style.top = `${top}px`;
  panel.style.left = `${Math.min(Math.max(MARGIN_PX, left), innerWidth - width - MARGIN_PX)}px`;
}
