/** The foot of the sidebar: colours, language, and who is signed in. */

import { api } from "./api.js";
import { button, fill, h } from "./dom.js";
import { language, rememberLanguage, setLanguage, t } from "./i18n.js";
import { hangPopover } from "./popover.js";
import { setTheme, theme, THEMES } from "./theme.js";

/** @typedef {import("./api.js").Me} Me */

/** Dispatches `language` when the reader has chosen another one. */
export class Account extends EventTarget {
  element = h("div", { class: "sidebar-foot" });
  /** @type {Me | null} */
  me = null;

  /** @param {{onLinks: () => void}} actions */
  constructor(actions) {
    super();
    this.actions = actions;
  }

  /** @param {Me} me */
  show(me) {
    this.me = me;
    this.draw();
  }

  /** Draw everything, in the present language. */
  draw() {
    fill(this.element, this.me && this.#drawAccount(), h("span", { class: "space" }), this.#drawLanguage(), this.#drawTheme());
  }

  #drawTheme() {
    const now = theme();
    const label = t("theme.label", { theme: t(`theme.${now}`) });
    const next = THEMES[(THEMES.indexOf(now) + 1) % THEMES.length];
    const toggle = button({
      icon: now,
      label,
      class: "theme-toggle",
      onclick: () => {
        setTheme(next);
        this.draw();
        /** @type {HTMLElement | null} */ (this.element.querySelector(".theme-toggle"))?.focus();
      },
    });
    return toggle;
  }

  #drawLanguage() {
    const other = language() === "zh" ? "en" : "zh";
    const choose = () => {
      rememberLanguage(other);
      setLanguage(other);
      this.dispatchEvent(new Event("language"));
      /** @type {HTMLElement | null} */ (this.element.querySelector(".language"))?.focus();
    };
    const properties = { type: "button", class: "text-button language", lang: other, title: t("language.switch"), onclick: choose };
    return h("button", properties, t("language.other"));
  }

  #drawAccount() {
    const account = this.me?.account;
    const isGuest = !account || account.role === "guest";
    const name = isGuest ? t("account.guest") : account.name;
    const menu = button({ icon: "person", label: t("account.menu", { name }), text: name, class: "account" });
    hangPopover(menu, {
      label: t("account.menu", { name }),
      class: "menu",
      content: (close) => [
        h("p", { class: "muted" }, isGuest ? t("account.guest_note") : name),
        isGuest && h("a", { class: "text-button", href: this.me?.sign_in_url }, t("account.sign_in")),
        this.me?.can_share && h("button", { type: "button", class: "text-button", onclick: () => (close(), this.actions.onLinks()) }, t("sharing.all")),
        account?.role === "admin" && h("a", { class: "text-button", href: "/admin" }, t("account.console")),
        !isGuest && h("button", { type: "button", class: "text-button", onclick: signOut }, t("account.sign_out")),
      ],
    });
    return menu;
  }
}

async function signOut() {
  await api.signOut();
  // Another person may sit down next: no draft and no address of a chat stays behind.
  sessionStorage.clear();
  location.assign("/");
}
