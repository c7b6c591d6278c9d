/** Light, dark, or as the system: kept in local storage, shown as Gradio does it, by the class `dark` on the body. */

/** @typedef {"light" | "dark" | "system"} Theme */

const KEY = "haina.theme";
/** @type {Theme[]} */
export const THEMES = ["system", "light", "dark"];
const system = matchMedia("(prefers-color-scheme: dark)");

/** @returns {Theme} */
export function theme() {
  const kept = /** @type {Theme | null} */ (localStorage.getItem(KEY));
  return kept && THEMES.includes(kept) ? kept : "system";
}

/** @param {Theme} next */
export function setTheme(next) {
  localStorage.setItem(KEY, next);
  apply();
}

/** Show the chosen theme, now and whenever the system changes its own or another tab the choice. */
export function startTheme() {
  apply();
  system.addEventListener("change", apply);
  addEventListener("storage", (event) => event.key === KEY && apply());
}

function apply() {
  const isDark = theme() === "dark" || (theme() === "system" && system.matches);
  document.body.classList.toggle("dark", isDark);
}
