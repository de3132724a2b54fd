// The journal as a list, newest first; `lanes.js` draws the same.

import { $, clock, element } from "./dom.js";
import { groupOf } from "./kinds.js";
import { drawLanes } from "./lanes.js";

const KEPT = 500;
const SHOWN = 200;

export class Timeline {
  constructor() {
    this.entries = [];
    this.stoppedAt = null;
    this.present = [];
    for (const id of ["filter-kind", "filter-model"]) $(id).addEventListener("change", () => this.list());
  }

  // Forgets what was told: the worker tells its history again.
  begin() {
    this.entries = [];
  }

  // Takes what is in memory now, and goes on with time after `stop`.
  resume(models) {
    const now = Date.now() / 1000;
    this.present = models.map(({ model, state, age_s: age }) => ({ model, state, since: now - age }));
    if (this.stoppedAt === null) return;
    this.stoppedAt = null;
    this.draw();
  }

  // Ends the time line at a moment: what came after is not known.
  stop(at) {
    this.stoppedAt = at;
    this.draw();
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
    $("nothing").hidden = this.entries.length > 0;
    $("chart").hidden = !this.entries.length;
    if (this.entries.length) drawLanes(this.entries, this.stoppedAt ?? Date.now(), this.stoppedAt !== null, this.present);
  }
}

function line(entry) {
  const who = entry.owner ? ` (${entry.owner})` : "";
  return element("li", { class: groupOf(entry.kind) },
    element("time", { datetime: new Date(entry.time * 1000).toISOString() }, clock(entry.time * 1000)),
    element("span", { class: "model" }, entry.model),
    element("span", { class: "kind" }, entry.kind),
    element("span", { class: "reason" }, entry.reason + who));
}
