// What is in memory: bars against the budget, and a row for each model that keeps its buttons, so
// that the keyboard's focus stays where it is while figures change.

import { $, duration, element, size, took } from "./dom.js";

const TONE = { ready: "good", loading: "busy", warming: "busy", draining: "busy", unloading: "" };
const SEGMENT = { loading: "coming", warming: "coming", draining: "going", unloading: "going" };

export class Residents {
  constructor(act) {
    this.act = act;
    this.rows = new Map();
  }

  show(state) {
    this.since = performance.now();
    this.state = state;
    this.showMemory(state);
    const present = new Set(state.models.map((model) => model.model));
    for (const [id, row] of this.rows) {
      if (!present.has(id)) {
        row.item.remove();
        this.rows.delete(id);
      }
    }
    for (const model of state.models) {
      if (!this.rows.has(model.model)) this.rows.set(model.model, this.makeRow(model.model));
      this.fill(this.rows.get(model.model), model);
    }
    $("nobody").hidden = state.models.length > 0;
    this.tick();
  }

  showMemory(state) {
    const bars = Object.entries(state.budget).map(([device, budget]) => {
      const models = state.models.filter((model) => model.device === device);
      const booked = state.footprint[device] ?? 0;
      const bar = element("div", { class: "bar", role: "img", "aria-label": `${size(booked)} of ${size(budget)} booked on ${device}` });
      models.forEach((model, index) => {
        const shade = SEGMENT[model.state] ?? (index % 2 ? "odd" : "");
        const part = element("span", { class: shade, title: `${model.model}: ${size(model.footprint)}` });
        part.style.width = `${(100 * model.footprint) / budget}%`;
        bar.append(part);
      });
      const mapped = models.reduce((sum, model) => sum + model.mapped, 0);
      const also = mapped ? `, and ${size(mapped)} of mapped files that need no budget` : "";
      return element("div", { class: "device" }, element("p", {}, `${device}: ${size(booked)} of ${size(budget)} booked${also}`), bar);
    });
    $("memory").replaceChildren(...bars);
  }

  makeRow(id) {
    const row = { id, expiry: element("span"), idle: element("span") };
    for (const part of ["name", "chips", "memory", "bar", "users", "loads"]) row[part] = element("span");
    row.bar.className = "bar thin";
    row.bar.append(element("span"));
    row.pin = element("button", { type: "button", class: "quiet", onclick: () => this.act(row.pinned ? "unpin" : "pin", id) });
    row.unload = element("button", { type: "button", class: "quiet", "aria-label": `Unload ${id}`, onclick: () => this.act("unload", id) }, "Unload");
    const why = element("button", { type: "button", class: "quiet", "aria-label": `Why is ${id} in memory?`, onclick: () => this.act("why", id) }, "Why?");
    row.item = element("li", { class: "resident", "data-model": id },
      element("div", { class: "top" }, element("strong", {}, id), row.chips),
      row.bar,
      element("div", { class: "facts" }, row.memory, row.users, row.idle, row.expiry, row.loads),
      element("div", { class: "buttons" }, row.pin, row.unload, why));
    $("residents").append(row.item);
    return row;
  }

  fill(row, model) {
    row.model = model;
    row.pinned = model.pinned;
    const chips = [element("span", { class: `chip ${TONE[model.state]}` }, model.state)];
    if (model.pinned) chips.push(element("span", { class: "chip" }, "pinned"));
    row.chips.replaceChildren(...chips.flatMap((chip) => [chip, " "]));
    const largest = Math.max(1, ...this.state.models.map((each) => each.footprint));
    row.bar.firstChild.style.width = `${(100 * model.footprint) / largest}%`;
    row.bar.title = `${size(model.footprint)}; the largest here takes ${size(largest)}`;
    const also = model.mapped ? ` + ${size(model.mapped)} mapped` : "";
    row.memory.replaceChildren("memory ", element("b", {}, size(model.footprint) + also));
    row.users.replaceChildren(...this.users(model));
    row.loads.replaceChildren(...(model.load_s ? ["loaded in ", element("b", {}, took(model.load_s + model.warmup_s))] : []));
    row.pin.textContent = model.pinned ? "Unpin" : "Pin";
    row.pin.setAttribute("aria-label", `${row.pin.textContent} ${row.id}`);
    row.unload.disabled = model.state !== "ready";
  }

  users(model) {
    if (!model.references && !model.streams) return model.state === "ready" ? ["nobody uses it"] : [];
    const count = `${model.references} ${model.references === 1 ? "reference" : "references"}`;
    const speaking = model.streams ? `, ${model.streams} speaking` : "";
    const by = model.owners.length ? ["by ", element("b", {}, model.owners.join(", "))] : [];
    return [element("b", {}, count + speaking), " ", ...by];
  }

  // Counts idle and expiry on between two states.
  tick() {
    const passed = (performance.now() - this.since) / 1000;
    for (const { model, idle, expiry } of this.rows.values()) {
      const used = model.references || model.streams || model.state !== "ready";
      idle.replaceChildren(...(used ? [] : ["idle ", element("b", {}, duration(model.idle_s + passed))]));
      const left = model.expires_in_s;
      expiry.replaceChildren(...(left === null ? [] : ["expires in ", element("b", {}, duration(left - passed))]));
    }
  }
}
