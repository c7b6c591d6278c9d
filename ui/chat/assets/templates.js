/** Prompt templates for a new conversation: the picker, the form of the chosen one's variables, and its example questions. */

import { api } from "./api.js";
import { button, fill, h } from "./dom.js";
import { t } from "./i18n.js";
import { hangPopover } from "./popover.js";
import { showToast } from "./toast.js";

/** @typedef {import("./api.js").Template} Template */
/** @typedef {import("./api.js").Variable} Variable */

const STARTERS = 4;

/**
 * Dispatches `picked` when a template is chosen or let go, `unpicked` (a CustomEvent with what was searched) when the
 * picker is left, and `example` (a CustomEvent with the text) for an example question.
 */
export class Templates extends EventTarget {
  /** @type {Template[]} */
  #all = [];
  /** @type {Template | null} */
  picked = null;
  /** The chosen template's name and variables, above the message box. */
  form = h("div", { class: "template-form" });
  /** What the empty page offers. */
  starters = h("div", { class: "starters" });

  /** Read the templates, in the reader's language. */
  async load() {
    const answer = await api.templates().catch((error) => void showToast(error.message));
    this.#all = answer?.templates ?? this.#all;
    this.picked = this.#all.find(({ name }) => name === this.picked?.name) ?? null;
    this.draw();
    this.dispatchEvent(new Event("picked"));
  }

  /** @param {Template | null} template */
  pick(template) {
    this.picked = template;
    this.draw();
    this.dispatchEvent(new Event("picked"));
    const first = /** @type {HTMLElement | null} */ (this.form.querySelector("input, select, textarea"));
    first?.focus();
  }

  /**
   * The chosen template as the server takes it; null without one.
   * @returns {import("./api.js").Question["template"]}
   */
  answer() {
    if (!this.picked) return null;
    return { name: this.picked.name, variables: this.#values() };
  }

  /** @returns {boolean} whether every variable that is needed is there; otherwise the browser points at it */
  isComplete() {
    return [...this.#fields()].every((field) => field.reportValidity());
  }

  /** Draw form and starters again; what was typed stays. */
  draw() {
    const typed = this.#values();
    const { picked } = this;
    this.form.hidden = !picked;
    fill(this.form, ...(picked ? this.#drawForm(picked, typed) : []));
    fill(this.starters, ...(picked ? this.#drawExamples(picked) : this.#drawCards()));
  }

  /**
   * The searchable list of all templates, as a popover's content.
   * @param {() => void} close
   */
  drawPicker(close) {
    const list = h("ul", { class: "template-list" });
    /** @param {string} query */
    const show = (query) => {
      const found = this.#found(query);
      const none = h("li", { class: "muted" }, t("templates.none"));
      fill(list, ...(found.length ? found.map((template) => h("li", {}, this.#drawChoice(template, close))) : [none]));
    };
    const field = h("input", { type: "search", placeholder: t("templates.search"), "aria-label": t("templates.search") });
    field.addEventListener("input", () => show(field.value));
    const picker = h("div", { class: "template-picker" }, field, list);
    picker.addEventListener("keydown", (event) => {
      if (event.isComposing) return;
      const first = this.#found(field.value)[0];
      if (event.key === "Enter" && event.target === field && first) {
        event.preventDefault();
        close();
        this.pick(first);
      } else if (event.key === "Escape") {
        event.preventDefault();
        close();
        this.dispatchEvent(new CustomEvent("unpicked", { detail: field.value }));
      } else if (event.key.length === 1 && !event.ctrlKey && !event.metaKey && event.key !== " ") {
        field.focus(); // whoever types in the list goes on searching
      } else {
        moveAmongChoices(event, picker);
      }
    });
    show("");
    return [picker];
  }

  /**
   * The templates that match, those first whose title begins with what is searched.
   * @param {string} query
   */
  #found(query) {
    const rank = (/** @type {Template} */ { title }) => (title.toLowerCase().startsWith(query.toLowerCase()) ? 0 : 1);
    return this.#all.filter((template) => matches(template, query)).sort((one, other) => rank(one) - rank(other));
  }

  #drawCards() {
    return this.#all.slice(0, STARTERS).map((template) => this.#drawChoice(template, () => {}));
  }

  /**
   * @param {Template} template
   * @param {() => void} close
   */
  #drawChoice(template, close) {
    const choose = () => {
      close();
      this.pick(template);
    };
    const words = [h("span", { class: "template-title" }, template.title), h("span", { class: "muted" }, template.description)];
    return h("button", { type: "button", class: "template-choice", onclick: choose }, ...words);
  }

  /** @param {Template} template */
  #drawExamples({ examples }) {
    /** @param {string} text */
    const offer = (text) => {
      const choose = () => this.dispatchEvent(new CustomEvent("example", { detail: text }));
      return h("button", { type: "button", class: "template-choice", onclick: choose }, text);
    };
    return examples.length ? [h("h3", {}, t("empty.examples")), ...examples.map(offer)] : [];
  }

  /**
   * @param {Template} template
   * @param {Record<string, string>} typed
   */
  #drawForm(template, typed) {
    const remove = button({ icon: "close", label: t("templates.remove", { title: template.title }), onclick: () => this.pick(null) });
    const name = h("span", { class: "template-name" }, t("templates.version", { title: template.title, number: template.number }));
    const fields = template.variables.map((variable) => drawField(variable, typed[variable.name] ?? variable.default));
    return [h("div", { class: "template-form-head" }, name, h("span", { class: "muted" }, template.description), remove), h("div", { class: "fields" }, ...fields)];
  }

  /** @returns {NodeListOf<HTMLInputElement | HTMLSelectElement | HTMLTextAreaElement>} */
  #fields() {
    return this.form.querySelectorAll("input, select, textarea");
  }

  #values() {
    return Object.fromEntries([...this.#fields()].map((field) => [field.name, field.value]));
  }
}

/**
 * Hang the picker on a button.
 * @param {HTMLElement} opener
 * @param {Templates} templates
 */
export function hangPicker(opener, templates) {
  hangPopover(opener, { label: t("templates.label"), class: "picker", content: (close) => templates.drawPicker(close) });
}

/**
 * @param {Variable} variable
 * @param {string} value
 */
function drawField({ name, label, kind, choices, required }, value) {
  const properties = { name, required, class: "field" };
  const field =
    kind === "select"
      ? h("select", properties, !value && h("option", { value: "" }, t("templates.choose")), ...choices.map((choice) => h("option", { value: choice }, choice)))
      : kind === "long_text"
        ? h("textarea", { ...properties, rows: "2" })
        : h("input", { ...properties, type: kind === "number" ? "number" : "text", step: kind === "number" ? "any" : null });
  field.value = value;
  return h("label", { class: kind === "long_text" ? "is-wide" : "" }, h("span", {}, label, required && h("span", { "aria-hidden": "true" }, " *")), field);
}

/**
 * @param {Template} template
 * @param {string} query
 */
function matches({ name, title, description, tags }, query) {
  const text = [name, title, description, ...tags].join(" ").toLowerCase();
  return query.toLowerCase().split(/\s+/).every((word) => text.includes(word));
}

/**
 * The arrow keys walk through the list, from the search field on.
 * @param {KeyboardEvent} event
 * @param {HTMLElement} picker
 */
function moveAmongChoices(event, picker) {
  if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
  const stops = /** @type {HTMLElement[]} */ ([...picker.querySelectorAll("input, button")]);
  const next = stops.indexOf(/** @type {HTMLElement} */ (document.activeElement)) + (event.key === "ArrowDown" ? 1 : -1);
  event.preventDefault();
  stops[next]?.focus();
}
