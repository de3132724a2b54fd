// What each device's budget is booked for: a bar of what is in memory, and the same in words.

import { $, element, share, size } from "./dom.js";
import { PHASE } from "./kinds.js";

const NAMED = 8;

export function showMemory(state) {
  const devices = Object.entries(state.budget).map(([device, budget]) => {
    const models = state.models.filter((model) => model.device === device);
    return showDevice(device, budget, state.footprint[device] ?? 0, models);
  });
  $("memory").replaceChildren(...devices);
}

function showDevice(device, budget, booked, models) {
  const largest = models.filter((model) => model.footprint).sort((one, other) => other.footprint - one.footprint);
  const mapped = models.reduce((sum, model) => sum + model.mapped, 0);
  const also = mapped ? `, and ${size(mapped)} of mapped files that need no budget` : "";
  const words = [`${device}: `, element("b", {}, `${size(booked)} of ${size(budget)}`), ` booked, ${share(booked, budget)}${also}`];
  const bar = element("div", { class: "bar", role: "img", "aria-label": `${size(booked)} of ${size(budget)} booked on ${device}` });
  bar.append(...largest.map((model) => segment(model, budget)));
  return element("div", { class: "device" }, element("p", {}, ...words), bar, legend(largest, budget - booked));
}

function segment(model, budget) {
  const part = element("span", { class: PHASE[model.state], title: `${model.model}: ${size(model.footprint)}` });
  part.style.width = `${(100 * model.footprint) / budget}%`;
  return part;
}

// Names the parts from left to right.
function legend(largest, free) {
  const rest = largest.slice(NAMED);
  const others = rest.reduce((sum, model) => sum + model.footprint, 0);
  return element("ul", { class: "legend plain" },
    ...largest.slice(0, NAMED).map((model) => named(PHASE[model.state], model.model, model.footprint)),
    ...(rest.length ? [named("", `and ${rest.length} more`, others)] : []),
    named("free", "free", Math.max(0, free)));
}

function named(shade, name, bytes) {
  return element("li", {}, element("i", { class: `swatch ${shade}` }), `${name} `, element("b", {}, size(bytes)));
}
