// The journal as a list, newest first, and as lanes: when each model was coming, ready and going.

import { $, element } from "./dom.js";

const KEPT = 500;
const SHOWN = 200;
const SPAN_S = 600;
const LANES = 12;
const KINDS = {
  coming: ["loading", "warming", "ready", "joined", "waiting"],
  going: ["draining", "unloading", "gone", "pinned", "unpinned", "kept"],
  trouble: ["refused", "failed", "overdue", "leaking"],
};
const PHASES = { loading: "loading", warming: "warming", ready: "ready", draining: "draining", unloading: "unloading", gone: null };
const SVG = "http://www.w3.org/2000/svg";

const groupOf = (kind) => Object.keys(KINDS).find((group) => KINDS[group].includes(kind)) ?? "going";

export class Timeline {
  constructor() {
    this.entries = [];
    for (const id of ["filter-kind", "filter-model"]) $(id).addEventListener("change", () => this.list());
  }

  clear() {
    this.entries = [];
  }

  add(entry) {
    this.entries.push(entry);
    if (this.entries.length > KEPT) this.entries.shift();
    if (this.waiting) return;
    this.waiting = requestAnimationFrame(() => {
      this.waiting = 0;
      this.list();
      this.draw();
    });
  }

  list() {
    this.offerModels();
    const kind = $("filter-kind").value;
    const model = $("filter-model").value;
    const wanted = this.entries.filter((entry) => (!kind || groupOf(entry.kind) === kind) && (!model || entry.model === model));
    $("journal").replaceChildren(...wanted.slice(-SHOWN).reverse().map(line));
  }

  offerModels() {
    const select = $("filter-model");
    const known = new Set([...select.options].map((option) => option.value));
    for (const { model } of this.entries) {
      if (!known.has(model)) {
        known.add(model);
        select.append(element("option", { value: model }, model));
      }
    }
  }

  draw() {
    const now = Date.now() / 1000;
    const first = this.entries.length ? Math.max(now - SPAN_S, this.entries[0].time) : now - 60;
    const span = Math.max(30, now - first);
    const models = [...new Set(this.entries.filter((entry) => entry.kind in PHASES || groupOf(entry.kind) === "trouble").map((entry) => entry.model))].slice(-LANES);
    const width = Math.max(320, $("lanes").clientWidth);
    const left = Math.min(190, width * 0.36);
    const x = (time) => left + ((width - left - 4) * (Math.max(time, now - span) - (now - span))) / span;
    const height = models.length * 22 + 22;
    const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `Models in memory over the last ${Math.round(span)} seconds; the list below says the same` });
    for (const part of width < 600 ? [0, 0.5, 1] : [0, 0.25, 0.5, 0.75, 1]) {
      const at = now - span * (1 - part);
      svg.append(make("line", { class: "grid", x1: x(at), x2: x(at), y1: 0, y2: height - 18 }));
      const label = make("text", { x: x(at), y: height - 4, "text-anchor": part === 0 ? "start" : part === 1 ? "end" : "middle" });
      label.textContent = part === 1 ? "now" : `${ago(span * (1 - part))}`;
      svg.append(label);
    }
    models.forEach((model, index) => this.lane(svg, model, index * 22, left, x, now));
    $("lanes").replaceChildren(svg);
  }

  lane(svg, model, top, left, x, now) {
    const name = make("text", { class: "name", x: 0, y: top + 14 });
    name.textContent = model.length * 6.6 > left ? `${model.slice(0, Math.floor(left / 6.6) - 1)}…` : model;
    svg.append(name);
    let phase = null;
    let since = 0;
    const close = (until) => {
      if (phase) svg.append(titled(make("rect", { class: phase, x: x(since), y: top + 3, width: Math.max(1.5, x(until) - x(since)), height: 14, rx: 2 }), `${model} ${phase}`));
    };
    for (const entry of this.entries.filter((each) => each.model === model)) {
      if (entry.kind in PHASES) {
        close(entry.time);
        [phase, since] = [PHASES[entry.kind], entry.time];
      } else if (groupOf(entry.kind) === "trouble") {
        const at = x(entry.time);
        if (entry.kind === "failed") phase = null;
        svg.append(titled(make("line", { class: "mark", x1: at, x2: at, y1: top + 1, y2: top + 19 }), `${model} ${entry.kind}: ${entry.reason}`));
      }
    }
    close(now);
  }
}

function line(entry) {
  const moment = new Date(entry.time * 1000);
  const who = entry.owner ? ` (${entry.owner})` : "";
  return element("li", { class: groupOf(entry.kind) },
    element("time", { datetime: moment.toISOString() }, moment.toLocaleTimeString([], { hour12: false })),
    element("span", { class: "model" }, entry.model),
    element("span", { class: "kind" }, entry.kind),
    element("span", { class: "reason" }, entry.reason + who));
}

function ago(seconds) {
  return seconds < 90 ? `${Math.round(seconds)} s ago` : `${Math.round(seconds / 60)} min ago`;
}

function make(tag, attributes) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

function titled(shape, text) {
  const title = make("title", {});
  title.textContent = text;
  shape.append(title);
  return shape;
}
