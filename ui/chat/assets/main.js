/** Where the page begins: waits for Gradio to draw the shell, then puts the parts together. */

import { Account } from "./account.js";
import { api } from "./api.js";
import { Banner } from "./banner.js";
import { Chat } from "./chat.js";
import { Composer } from "./composer.js";
import { chosenLanguage, language, setLanguage } from "./i18n.js";
import { Sharing } from "./sharing.js";
import { Sidebar } from "./sidebar.js";
import { Status } from "./status.js";
import { Templates } from "./templates.js";
import { startTheme } from "./theme.js";
import { Thread } from "./thread.js";
import { mountToasts } from "./toast.js";

/** At most one look at the server for a burst of focus events. */
const RETURN_PAUSE_MS = 1000;

/**
 * The three parts of the shell (`ui/chat/page.py`), as soon as they are all there.
 * @returns {Promise<HTMLElement[]>}
 */
function shell() {
  const find = () => ["haina-sidebar", "haina-thread", "haina-composer"].map((id) => document.getElementById(id));
  return new Promise((resolve) => {
    const look = () => {
      const roots = find();
      if (roots.some((root) => root === null)) return;
      observer.disconnect();
      resolve(/** @type {HTMLElement[]} */ (roots));
    };
    const observer = new MutationObserver(look);
    observer.observe(document.body, { childList: true, subtree: true });
    look();
  });
}

/** @param {HTMLElement[]} roots */
function mount([sidebarRoot, threadRoot, composerRoot]) {
  setLanguage(language());
  startTheme();
  const status = new Status();
  const templates = new Templates();
  const chat = new Chat();
  const sharing = new Sharing();
  const account = new Account({ onLinks: () => sharing.open(null) });
  const banner = new Banner(status);
  const sidebar = new Sidebar(sidebarRoot, chat, sharing, account.element);
  const thread = new Thread(threadRoot, {
    actions: { repeat: (id, how) => chat.repeat(id, how), showSibling: (id) => chat.showSibling(id) },
    onMenu: () => sidebar.open(),
    onNew: () => chat.open(null),
    sharing,
    model: banner.model,
    banner: banner.banner,
    starters: templates.starters,
  });
  const composer = new Composer(composerRoot, { chat, templates, status });
  chat.attach({ thread, composer });
  mountToasts(composerRoot);
  chat.addEventListener("opened", () => sidebar.mark());
  chat.addEventListener("listed", () => sidebar.refresh());
  chat.addEventListener("ended", () => status.check());
  addEventListener("popstate", () => chat.openFromAddress());
  account.addEventListener("language", () => redraw({ account, banner, sidebar, composer, templates, chat, status }));
  lookOnReturn(() => {
    sidebar.refresh();
    status.check();
    chat.refresh();
  });
  status.addEventListener("back", () => {
    sidebar.refresh();
    chat.refresh();
  });
  keepAboveKeyboard();
  return { account, banner, sidebar, composer, templates, chat, status, sharing };
}

/**
 * Draw everything in another language. The server's own words – notices, titles of templates – are read again.
 * @param {ReturnType<typeof mount>} parts
 */
function redraw({ account, banner, sidebar, composer, templates, chat, status }) {
  account.draw();
  banner.draw();
  sidebar.draw();
  composer.draw();
  templates.load();
  status.check();
  chat.openFromAddress();
}

/**
 * Call when the reader comes back to this tab.
 * @param {() => void} look
 */
function lookOnReturn(look) {
  let last = Date.now();
  const onReturn = () => {
    if (document.hidden || Date.now() - last < RETURN_PAUSE_MS) return;
    last = Date.now();
    look();
  };
  document.addEventListener("visibilitychange", onReturn);
  addEventListener("focus", onReturn);
}

/** The phone's keyboard covers the page without making it smaller; the visible part's height goes to the style sheet. */
function keepAboveKeyboard() {
  const seen = window.visualViewport;
  const fit = () => seen && document.documentElement.style.setProperty("--haina-height", `${seen.height}px`);
  seen?.addEventListener("resize", fit);
  fit();
}

async function start() {
  const parts = mount(await shell());
  parts.status.check();
  parts.account.draw();
  const me = await api.me().catch(() => null);
  if (me && !me.can_chat) {
    location.assign(me.sign_in_url);
    return;
  }
  if (me && !chosenLanguage() && me.language !== language()) {
    setLanguage(me.language);
    parts.banner.draw();
    parts.sidebar.draw();
  }
  if (me) {
    parts.sharing.canShare = me.can_share;
    parts.account.show(me);
  }
  parts.sidebar.refresh();
  parts.templates.load();
  await parts.chat.openFromAddress();
  parts.composer.focus();
}

start();
