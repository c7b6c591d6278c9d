/** Which model answers: a name with a dot in the header, and a banner while there is something to know about it. */

import { copyText } from "./clipboard.js";
import { button, fill, h } from "./dom.js";
import { number, t } from "./i18n.js";
import { drawBar } from "./message.js";
import { hangPopover } from "./popover.js";

/** @typedef {import("./status.js").Status} Status */

const COMMAND = "HAINA_MODEL__PATH=baichuan-inc/Baichuan2-7B-Chat make serve";
const DISMISSED = "haina.banner.dismissed";

export class Banner {
  model = h("div", { class: "model" });
  banner = h("div", { class: "banner", hidden: true });
  /** What is drawn now: a poll that changes nothing draws nothing, so that an open panel stays open. */
  #drawn = "";

  /** @param {Status} status */
  constructor(status) {
    this.status = status;
    status.addEventListener("change", () => this.draw());
    this.draw();
  }

  /** Draw both, in the present language. */
  draw() {
    const drawn = JSON.stringify([this.status.current, this.status.isReachable, t("app.title"), t("model.ready"), isDismissed()]);
    if (drawn === this.#drawn) return;
    this.#drawn = drawn;
    this.#drawModel();
    const content = this.#content();
    this.banner.hidden = !content;
    fill(this.banner, ...(content ?? []));
  }

  #drawModel() {
    const { current, isReachable } = this.status;
    if (!current) {
      fill(this.model);
      return;
    }
    const state = isReachable ? current.state : "down";
    const title = current.model?.title ?? t("model.none");
    const words = t(`model.${state}`);
    const name = h(
      "button",
      { type: "button", class: "text-button model-name", "aria-label": t("model.label", { title, state: words }) },
      h("span", { class: "model-title" }, current.model ? title : words),
      h("span", { class: `dot is-${state}`, "aria-hidden": "true" }),
    );
    hangPopover(name, { label: title, class: "about-model", content: () => drawAbout(current, title, words) });
    fill(this.model, name);
  }

  /** @returns {(Node | string)[] | null} */
  #content() {
    const { current, isReachable } = this.status;
    if (!isReachable) return [h("p", { role: "status" }, t("app.unreachable"))];
    if (!current) return null;
    if (current.state === "loading") {
      return [h("p", { role: "status" }, t("banner.loading", { percent: Math.round(current.progress * 100) })), drawBar(current.progress)];
    }
    if (!current.ready) return [h("p", { role: "status" }, current.message || t(current.state === "down" ? "banner.down" : "banner.starting"))];
    if (current.filter !== "ok") {
      return [h("p", { role: "status" }, t(current.filter === "closed" ? "banner.filter_closed" : "banner.filter_degraded"))];
    }
    if (current.model?.is_embedded && !isDismissed()) return this.#drawEmbedded(current.model.title);
    return null;
  }

  /** @param {string} title */
  #drawEmbedded(title) {
    const copy = button({ icon: "copy", label: t("banner.copy"), onclick: () => copyText(COMMAND, { button: copy }) });
    const dismiss = button({
      icon: "close",
      label: t("banner.dismiss"),
      onclick: () => {
        sessionStorage.setItem(DISMISSED, "1");
        this.draw();
      },
    });
    return [h("p", {}, t("banner.embedded", { title }), " ", h("span", { class: "command" }, h("code", {}, COMMAND), copy)), dismiss];
  }
}

function isDismissed() {
  return sessionStorage.getItem(DISMISSED) !== null;
}

/**
 * @param {import("./api.js").ServerStatus} status
 * @param {string} title
 * @param {string} state
 */
function drawAbout({ model, running, slots, waiting }, title, state) {
  /** @param {string} address @param {string} words */
  const link = (address, words) => address && h("li", {}, h("a", { href: address, target: "_blank", rel: "noopener noreferrer" }, words));
  return [
    h("p", { class: "about-title" }, title),
    h("p", { class: "muted" }, state),
    model && h("p", { class: "muted" }, t("model.context", { n: number(model.context_length) })),
    h("p", { class: "muted" }, t("model.load", { running, slots, waiting })),
    model && h("ul", {}, link(model.license_url, t("model.license")), link(model.source_url, t("model.source"))),
  ];
}
