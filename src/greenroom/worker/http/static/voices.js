// Every voice that could be loaded: a table that can be searched, with buttons in each row. Rows are
// kept while they are shown, so that the keyboard's focus stays where it is.

import { $, element, size, usable, write } from "./dom.js";
import { PHASE } from "./kinds.js";

const PAGE = 100;
const TONE = { coming: "busy", ready: "good", going: "" };
const PREPARED = { true: "yes", false: "no", null: "–" };

export class Voices {
  constructor(act) {
    this.act = act;
    this.catalog = [];
    this.present = new Map();
    this.pinned = new Set();
    this.rows = new Map();
    this.limit = PAGE;
    this.known = false;
    for (const id of ["voice-search", "voice-language", "voice-where"]) {
      $(id).addEventListener("input", () => {
        this.limit = PAGE;
        this.list();
      });
    }
    $("voices-more").addEventListener("click", () => {
      this.limit += PAGE;
      this.list();
    });
  }

  // Takes the voices of `api/tags`.
  offer(models) {
    this.catalog = models;
    this.known = true;
    const focused = document.activeElement.closest("#voices") ? document.activeElement.ariaLabel : null;
    this.rows.clear();
    const languages = [...new Set(models.flatMap((model) => model.languages))].sort();
    const select = $("voice-language");
    const chosen = select.value;
    select.replaceChildren(element("option", { value: "" }, "all"), ...languages.map((name) => element("option", { value: name }, name)));
    select.value = languages.includes(chosen) ? chosen : "";
    $("voice-filters").hidden = models.length < 4;
    this.list();
    if (focused) [...$("voices").querySelectorAll("button")].find((button) => button.ariaLabel === focused)?.focus();
  }

  show(state) {
    this.present = new Map(state.models.map((model) => [model.model, model]));
    this.pinned = new Set(state.pinned);
    if ($("voice-where").value) this.list();
    else this.fillAll();
  }

  // Preparing changes what the list said of a voice.
  hear({ kind, model }) {
    if (kind !== "prepared" && kind !== "unprepared") return;
    const entry = this.catalog.find((each) => each.model === model);
    if (!entry || entry.prepared === null) return;
    entry.prepared = kind === "prepared";
    this.fillAll();
  }

  wanted() {
    const words = $("voice-search").value.toLowerCase().split(/\s+/).filter(Boolean);
    const language = $("voice-language").value;
    const where = $("voice-where").value;
    return this.catalog.filter((model) => {
      if (language && !model.languages.includes(language)) return false;
      if (where && (where === "in") !== this.present.has(model.model)) return false;
      const text = [model.model, ...model.aliases, ...model.languages, ...model.tags, model.details.family].join(" ").toLowerCase();
      return words.every((word) => text.includes(word));
    });
  }

  list() {
    const wanted = this.wanted();
    const shown = wanted.slice(0, this.limit);
    const items = shown.map((model) => this.rowOf(model).item);
    const body = $("voices");
    if (items.length !== body.children.length || items.some((item, at) => item !== body.children[at])) body.replaceChildren(...items);
    this.fillAll();
    $("voices-table").hidden = !shown.length;
    $("voices-more").hidden = shown.length === wanted.length;
    write($("voices-more"), `Show ${Math.min(PAGE, wanted.length - shown.length)} more of ${wanted.length - shown.length}`);
    write($("voices-count"), this.known ? counted(wanted.length, this.catalog.length) : "");
    $("no-voices").hidden = shown.length > 0;
    write($("no-voices"), this.catalog.length ? "No voice is like that." : "There is no voice: pull one, or drop one into a directory of the configuration.");
  }

  rowOf(model) {
    if (!this.rows.has(model.model)) this.rows.set(model.model, this.makeRow(model));
    return this.rows.get(model.model);
  }

  makeRow(model) {
    const row = { model, chips: element("span", { class: "chips" }), prepared: element("td", { "data-label": "prepared " }), buttons: {} };
    for (const verb of ["load", "pin", "why"]) {
      row.buttons[verb] = element("button", { type: "button", class: "quiet", onclick: () => this.press(row, verb) });
    }
    write(row.buttons.why, "Why?");
    row.buttons.why.setAttribute("aria-label", `Why is voice ${model.model} in memory or not?`);
    const names = [element("strong", {}, model.model), row.chips];
    if (model.aliases.length) names.push(element("span", { class: "aliases" }, model.aliases.join(", ")));
    row.item = element("tr", { "data-voice": model.model },
      element("th", { scope: "row" }, ...names),
      element("td", {}, model.languages.join(", ") || "–"),
      element("td", {}, model.details.family),
      element("td", { class: "number" }, model.size === null ? "–" : size(model.size)),
      row.prepared,
      element("td", { class: "buttons" }, ...Object.values(row.buttons)));
    return row;
  }

  press({ model }, verb) {
    const present = this.present.get(model.model);
    const verbs = { load: present ? "unload" : "load", pin: this.pinned.has(model.model) ? "unpin" : "pin", why: "why" };
    this.act(verbs[verb], present ?? { model: model.model, state: null, pinned: this.pinned.has(model.model) });
  }

  fillAll() {
    for (const item of $("voices").children) this.fill(this.rows.get(item.dataset.voice));
  }

  fill(row) {
    const { model } = row;
    const present = this.present.get(model.model);
    const pinned = this.pinned.has(model.model);
    const chips = [];
    if (present) chips.push([present.state === "ready" ? "in memory" : present.state, TONE[PHASE[present.state]]]);
    if (pinned) chips.push(["pinned", ""]);
    if (model.default) chips.push(["default", ""]);
    const told = JSON.stringify(chips);
    if (row.told !== told) row.chips.replaceChildren(...chips.flatMap(([text, tone]) => [element("span", { class: `chip ${tone}` }, text), " "]));
    row.told = told;
    write(row.prepared, PREPARED[model.prepared]);
    this.name(row.buttons.load, present ? "Unload" : "Load", model.model);
    this.name(row.buttons.pin, pinned ? "Unpin" : "Pin", model.model);
    for (const button of Object.values(row.buttons)) usable(button, true);
    usable(row.buttons.load, !present || present.state === "ready");
  }

  name(button, verb, model) {
    write(button, verb);
    button.setAttribute("aria-label", `${verb} voice ${model}`);
  }

  stop() {
    for (const { buttons } of this.rows.values()) Object.values(buttons).forEach((button) => usable(button, false));
  }
}

const counted = (wanted, all) => (wanted === all ? String(all) : `${wanted} of ${all}`);
