/** Light, dark, or as the system: the choice of the chat page, shared through local storage (`haina.theme`). */

const KEY = "haina.theme";
const system = matchMedia("(prefers-color-scheme: dark)");

/** Show the chosen theme as Gradio does, by the class `dark` on the body; now, and when it changes elsewhere. */
export function startTheme() {
  apply();
  system.addEventListener("change", apply);
  addEventListener("storage", (event) => event.key === KEY && apply());
}

/** Change from light to dark, or back. */
export function switchTheme() {
  localStorage.setItem(KEY, isDark() ? "light" : "dark");
  apply();
}

function isDark() {
  const kept = localStorage.getItem(KEY);
  return kept === "dark" || (kept !== "light" && system.matches);
}

function apply() {
  document.body.classList.toggle("dark", isDark());
}
