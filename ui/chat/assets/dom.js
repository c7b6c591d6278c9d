/** Elements without a framework. Text always becomes a text node; server HTML has a file of its own, `blocks.js`. */

import { icon } from "./icons.js";

/** @typedef {Node | string | null | undefined | false} Child */

/**
 * Make an element. A property that starts with `on` is a listener; null and false are left out, true is an empty attribute.
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Record<string, unknown>} [properties]
 * @param {...(Child | Child[])} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), /** @type {EventListener} */ (value));
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(.../** @type {(Node | string)[]} */ (children.flat().filter((child) => child || child === "")));
  return element;
}

/**
 * A button that shows an icon, and a text where one is given. The label is what a screen reader says.
 * @param {{icon: Parameters<typeof icon>[0], label: string, text?: string, class?: string, onclick?: (event: MouseEvent) => void}} options
 * @returns {HTMLButtonElement}
 */
export function button({ icon: name, label, text, class: kind = "", onclick }) {
  const properties = { type: "button", class: `${text ? "text-button" : "icon-button"} ${kind}`, onclick };
  const named = text === label ? {} : { "aria-label": label, title: label };
  return h("button", { ...properties, ...named }, icon(name), text);
}

/**
 * Replace what an element shows.
 * @param {Element} element
 * @param {...(Child | Child[])} children
 */
export function fill(element, ...children) {
  element.replaceChildren(.../** @type {(Node | string)[]} */ (children.flat().filter(Boolean)));
}
