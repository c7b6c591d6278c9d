/** An answer's blocks: HTML that the server has rendered and sanitised (`ui/markdown.py`). The only file that sets HTML. */

import { copyText } from "./clipboard.js";
import { h } from "./dom.js";
import { t } from "./i18n.js";
import { icon } from "./icons.js";

/**
 * What each block was made from, until text is added to it.
 * @type {WeakMap<Element, string>}
 */
const sources = new WeakMap();

/**
 * Show exactly these blocks. One that is there already stays, and with it what the reader has selected in it.
 * @param {Element} container
 * @param {string[]} htmls sanitised by the server
 */
export function setBlocks(container, htmls) {
  while (container.children.length > htmls.length) container.lastElementChild?.remove();
  htmls.forEach((html, index) => {
    const block = container.children[index];
    if (!block || sources.get(block) !== html) setBlock(container, index, html);
  });
}

/**
 * Show a block at its place; blocks before it that have not come yet stay empty.
 * @param {Element} container
 * @param {number} index
 * @param {string} html sanitised by the server
 */
export function setBlock(container, index, html) {
  while (container.children.length <= index) container.append(h("div", { class: "answer-block" }));
  const block = container.children[index];
  // Trimmed, so that the last text node is one inside the block and `appendText` finds it.
  block.innerHTML = html.trim();
  sources.set(block, html);
  enliven(block);
}

/**
 * Give a block what HTML alone has not: code can be copied, and what scrolls sideways can be reached by keyboard.
 * @param {Element} block
 */
export function enliven(block) {
  for (const copy of block.querySelectorAll(".code-copy")) enableCopy(/** @type {HTMLButtonElement} */ (copy));
  for (const wide of block.querySelectorAll("pre, .table, div.math")) wide.setAttribute("tabindex", "0");
}

/**
 * Append plain text to the last text node of a block.
 * @param {Element} container
 * @param {number} index
 * @param {string} text
 */
export function appendText(container, index, text) {
  const block = container.children[index];
  if (!block) return;
  sources.delete(block);
  const texts = document.createTreeWalker(block, NodeFilter.SHOW_TEXT);
  const last = /** @type {Text | null} */ (texts.lastChild() && deepestLast(texts));
  if (last) last.appendData(text);
  else deepestElement(block).append(text);
}

/**
 * @param {TreeWalker} walker
 * @returns {Node}
 */
function deepestLast(walker) {
  let node = walker.currentNode;
  for (let next = walker.nextNode(); next; next = walker.nextNode()) node = next;
  return node;
}

/**
 * @param {Element} element
 * @returns {Element}
 */
function deepestElement(element) {
  return element.lastElementChild ? deepestElement(element.lastElementChild) : element;
}

/**
 * Give the button above a piece of code its icon and its deed. It stands before the code and holds no text, so that the
 * code stays the block's last text.
 * @param {HTMLButtonElement} copy
 */
function enableCopy(copy) {
  const code = copy.closest(".code")?.querySelector("pre");
  copy.classList.add("icon-button");
  copy.title = t("message.copy_code");
  copy.setAttribute("aria-label", copy.title);
  copy.append(icon("copy"));
  copy.addEventListener("click", () => copyText(code?.textContent ?? "", { button: copy }));
}
