// What is in memory: a row for each model that keeps its buttons, so that the keyboard's focus stays
// where it is while figures change.

import { $, counted, duration, element, share, size, took, usable, write } from "./dom.js";
import { Holders } from "./holders.js";
import { PHASE } from "./kinds.js";
import { showMemory } from "./memory.js";

const TONE = { coming: "busy", ready: "good", going: "" };

// What is told of the process that a model lives in.
function life({ name, pid, memory, restarts }) {
  const takes = memory === null ? "" : `, takes ${size(memory)}`;
  const after = restarts ? `, ${counted(restarts, "restart")}` : "";
  return ["in process ", element("b", {}, name), ` (${pid})${takes}${after}`];
}

// What of its memory others have too, which is booked with one of them.
function inCommon(model, part) {
  if (!part) return "";
  if (!model.shared) return `, beside ${part.name}, booked with ${part.models[0]}`;
  const others = part.models.length - 1;
  return `, of it ${size(model.shared)} for ${part.name}${others ? `, shared with ${counted(others, "other")}` : ""}`;
}

export class Residents {
  constructor(act) {
    this.act = act;
    this.rows = new Map();
    this.stopped = true;
  }

  show(state) {
    this.since = performance.now();
    this.stopped = false;
    showMemory(state);
    const present = new Set(state.models.map((model) => model.model));
    for (const [id, row] of this.rows) if (!present.has(id)) this.remove(id, row);
    for (const model of state.models) {
      if (!this.rows.has(model.model)) this.rows.set(model.model, this.makeRow(model.model));
      const part = state.shared.find(({ device, models }) => device === model.device && models.includes(model.model));
      this.fill(this.rows.get(model.model), model, state.budget[model.device], part);
    }
    write($("nobody"), "No model is in memory.");
    $("nobody").hidden = state.models.length > 0;
    this.tick();
  }

  // Passes the focus on to the next row, the one before, or the field for another model.
  remove(id, row) {
    const focused = row.item.contains(document.activeElement);
    const next = row.item.nextElementSibling ?? row.item.previousElementSibling;
    row.item.remove();
    this.rows.delete(id);
    if (focused) (next?.querySelector("[data-verb=unload]") ?? $("load-model")).focus();
  }

  makeRow(id) {
    const row = { holders: new Holders(), buttons: {} };
    for (const part of ["chips", "bar", "memory", "idle", "expiry", "loads", "gaps", "process"]) row[part] = element("span");
    row.bar.className = "bar thin";
    row.bar.append(element("span"));
    for (const [verb, label] of [["pin", "Pin"], ["unload", "Unload"], ["why", "Why?"]]) {
      row.buttons[verb] = element("button", { type: "button", class: "quiet", "data-verb": verb, "aria-label": `${label} ${id}`, onclick: () => this.press(row, verb) }, label);
    }
    row.buttons.why.setAttribute("aria-label", `Why is ${id} in memory?`);
    row.item = element("li", { class: "resident", "data-model": id },
      element("div", { class: "top" }, element("strong", {}, id), row.chips),
      row.bar,
      element("div", { class: "facts" }, row.memory, row.idle, row.expiry, row.loads, row.gaps, row.process),
      row.holders.item,
      element("div", { class: "buttons" }, ...Object.values(row.buttons)));
    $("residents").append(row.item);
    return row;
  }

  press(row, verb) {
    this.act(verb === "pin" && row.model.pinned ? "unpin" : verb, row.model);
  }

  fill(row, model, budget, part) {
    row.model = model;
    const phase = PHASE[model.state];
    const chips = [element("span", { class: `chip ${TONE[phase]}` }, model.yields_to ? `${model.state} for ${model.yields_to}` : model.state)];
    if (model.pinned) chips.push(element("span", { class: "chip" }, "pinned"));
    row.chips.replaceChildren(...chips.flatMap((chip) => [chip, " "]));
    row.bar.hidden = !budget;
    row.bar.firstChild.className = phase;
    row.bar.firstChild.hidden = !model.footprint;
    row.bar.firstChild.style.width = `${(100 * model.footprint) / budget}%`;
    const of = budget ? `, ${share(model.footprint, budget)} of the budget` : "";
    const also = model.mapped ? `, ${size(model.mapped)} mapped` : "";
    row.memory.replaceChildren(element("b", {}, size(model.footprint)), of + inCommon(model, part) + also);
    row.loads.replaceChildren(...(model.load_s ? ["loaded in ", element("b", {}, took(model.load_s + model.warmup_s))] : []));
    row.gaps.replaceChildren(...(model.gaps ? [element("b", {}, counted(model.gaps, "gap")), ` in speech, ${took(model.late_s)} in all`] : []));
    row.process.replaceChildren(...(model.process ? life(model.process) : []));
    row.holders.show(model);
    const pin = model.pinned ? "Unpin" : "Pin";
    write(row.buttons.pin, pin);
    row.buttons.pin.setAttribute("aria-label", `${pin} ${model.model}`);
    for (const button of Object.values(row.buttons)) usable(button, true);
    usable(row.buttons.unload, model.state === "ready");
  }

  // Leaves everything as it was at a moment of `performance.now`.
  stop(at) {
    this.tick(at);
    this.stopped = true;
    for (const { buttons } of this.rows.values()) Object.values(buttons).forEach((button) => usable(button, false));
  }

  // Counts idle and expiry on between two states.
  tick(now = performance.now()) {
    if (this.stopped) return;
    const passed = (now - this.since) / 1000;
    for (const { model, idle, expiry } of this.rows.values()) {
      const used = model.references || model.streams || model.state !== "ready";
      idle.replaceChildren(...(used ? [] : ["nobody uses it, idle ", element("b", {}, duration(model.idle_s + passed))]));
      const left = model.expires_in_s;
      expiry.replaceChildren(...(left === null ? [] : ["expires in ", element("b", {}, duration(left - passed))]));
    }
  }
}
