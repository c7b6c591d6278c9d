/** The reader's language and the page's words in it (`ui/words.py` writes them into the page's head). */

/** @typedef {"en" | "zh"} Language */

const COOKIE = "haina_lang";
const YEAR_S = 365 * 24 * 3600;

/** @type {Record<Language, Record<string, string>>} */
const words = JSON.parse(document.getElementById("haina-words")?.textContent || '{"en": {}, "zh": {}}');

/** @type {Language} */
let current = chosenLanguage() ?? (navigator.language.startsWith("zh") ? "zh" : "en");

/** @returns {Language} */
export function language() {
  return current;
}

/**
 * Use a language from now on; `main.js` then draws everything again.
 * @param {Language} next
 */
export function setLanguage(next) {
  current = next;
  document.documentElement.lang = next === "zh" ? "zh-CN" : "en";
  document.title = t("app.title");
}

/**
 * Remember the reader's choice, for the server too.
 * @param {Language} next
 */
export function rememberLanguage(next) {
  document.cookie = `${COOKIE}=${next}; path=/; max-age=${YEAR_S}; samesite=lax`;
}

/** @returns {Language | null} what the reader chose on this browser */
export function chosenLanguage() {
  const match = document.cookie.match(/(?:^|; )haina_lang=(en|zh)/);
  return match ? /** @type {Language} */ (match[1]) : null;
}

/**
 * The words for a key, its blanks filled in.
 * @param {string} key
 * @param {Record<string, string | number>} [blanks]
 * @returns {string}
 */
export function t(key, blanks = {}) {
  const text = words[current][key] ?? key;
  return text.replace(/\{(\w+)\}/g, (whole, name) => String(blanks[name] ?? whole));
}

/**
 * A number as the reader writes it.
 * @param {number} value
 * @returns {string}
 */
export function number(value) {
  return new Intl.NumberFormat(current === "zh" ? "zh-CN" : "en").format(value);
}
