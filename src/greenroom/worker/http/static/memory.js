// What each device's budget is booked for, as a bar and in words, and what the process really takes.

import { $, counted, element, share, size, write } from "./dom.js";
import { PHASE } from "./kinds.js";

const NAMED = 8;

export function showMemory(state) {
  const devices = Object.entries(state.budget).map(([device, budget]) => showDevice(device, budget, accounts(state, device), state));
  $("memory").replaceChildren(...devices);
  const engines = new Map([...state.models.map((model) => model.process), ...state.idle_processes].filter(Boolean).map(({ pid, memory }) => [pid, memory ?? 0]));
  showProcess(state.memory, [...engines.values()].reduce((sum, each) => sum + each, 0));
}

// Says what `/metrics` and `ps` say too: bytes of the worker's own process, and of its engines' all.
export function showProcess(memory, engines) {
  $("process").hidden = !memory;
  if (!memory) return;
  const whole = memory.proportional === null ? [] : [element("b", {}, size(memory.proportional)), " proportional, "];
  const beside = engines ? ["; engines’ own processes take ", element("b", {}, size(engines))] : [];
  const said = ["The worker’s process: ", ...whole, element("b", {}, size(memory.anonymous)), " anonymous, ", element("b", {}, size(memory.mapped)), " of mapped files, each once", ...beside];
  const told = said.map((part) => part.textContent ?? part).join("");
  if ($("process").textContent !== told) $("process").replaceChildren(...said);
}

// What is booked on a device, largest first: each model's own, and what models share, once.
function accounts({ models, shared, footprint }, device) {
  const own = models.filter((model) => model.device === device).map((model) => ({ name: model.model, shade: PHASE[model.state], bytes: model.footprint - model.shared }));
  const common = shared.filter((part) => part.device === device).map((part) => ({ name: `${part.name} of ${counted(part.models.length, "model")}`, shade: "shared", bytes: part.size }));
  const parts = [...own, ...common].filter(({ bytes }) => bytes > 0).sort((one, other) => other.bytes - one.bytes);
  return { booked: footprint[device] ?? 0, parts };
}

function showDevice(device, budget, { booked, parts }, { taken, overdrawn }) {
  const really = device in taken ? `; ${size(taken[device])} really taken for models` : "";
  const over = overdrawn.includes(device) ? [element("span", { class: "bad" }, ": too much, no load begins")] : [];
  const words = [`${device}: `, element("b", {}, `${size(booked)} of ${size(budget)}`), ` booked, ${share(booked, budget)}${really}`, ...over];
  const bar = element("div", { class: "bar", role: "img", "aria-label": `${size(booked)} of ${size(budget)} booked on ${device}` });
  bar.append(...parts.map((part) => segment(part, budget)));
  return element("div", { class: "device" }, element("p", {}, ...words), bar, legend(parts, budget - booked));
}

function segment({ name, shade, bytes }, budget) {
  const part = element("span", { class: shade, title: `${name}: ${size(bytes)}` });
  part.style.width = `${(100 * bytes) / budget}%`;
  return part;
}

// Names the parts from left to right.
function legend(parts, free) {
  const rest = parts.slice(NAMED);
  const others = rest.reduce((sum, part) => sum + part.bytes, 0);
  return element("ul", { class: "legend plain" },
    ...parts.slice(0, NAMED).map(({ name, shade, bytes }) => named(shade, name, bytes)),
    ...(rest.length ? [named("", `and ${rest.length} more`, others)] : []),
    named("free", "free", Math.max(0, free)));
}

function named(shade, name, bytes) {
  return element("li", {}, element("i", { class: `swatch ${shade}` }), `${name} `, element("b", {}, size(bytes)));
}
