// When each model was coming, ready and going, and where there was trouble, as lanes over time.

import { $, clock, shape } from "./dom.js";
import { groupOf, PHASE } from "./kinds.js";

const SPAN_S = 600;
const LANES = 12;
const LANE = 24;
const AXIS = 20;
const STEPS_S = [5, 10, 15, 30, 60, 120, 300];
const MARK = 6;
const pen = document.createElement("canvas").getContext("2d");

// What a model was before the first that is told of it.
const BEFORE = { warming: "loading", ready: "warming", draining: "ready", unloading: "ready", gone: "unloading" };

// Draws until a moment, which is now or, if time was `stopped`, that of the last news. `present` are
// the models that are in memory at that moment, of which no entry may tell.
export function drawLanes(entries, until, stopped, present = []) {
  pen.font = `12px ${getComputedStyle(document.body).fontFamily}`;
  const told = new Set(entries.filter(isDrawn).map((entry) => entry.model));
  const silent = present.map(({ model }) => model).filter((model) => !told.has(model));
  const models = [...silent, ...told].slice(-LANES);
  const end = until / 1000;
  const span = Math.max(30, Math.min(SPAN_S, end - entries[0].time));
  const width = Math.max(280, $("lanes").clientWidth);
  const longest = Math.max(0, ...models.map((model) => pen.measureText(model).width));
  const left = Math.ceil(Math.min(longest, width * 0.34)) + 12;
  const x = (time) => left + ((width - left - MARK - 2) * (Math.max(time, end - span) - (end - span))) / span;
  const height = models.length * LANE + AXIS;
  const svg = shape("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `Models in memory over ${Math.round(span)} seconds until ${clock(until)}; the list below says the same` });
  const words = stopped ? [clock(until), "before"] : ["now", "ago"];
  drawAxis(svg, { span, end, x, height, words, ticks: width < 600 ? 2 : 5 });
  models.forEach((model, index) => {
    const name = shape("text", { class: "name", x: 0, y: index * LANE + 16 });
    name.textContent = fitted(model, left - 12);
    svg.append(titled(name, model));
    const own = entries.filter((entry) => entry.model === model);
    const now = present.find((each) => each.model === model);
    drawLane(svg, { model, entries: own, first: firstPhase(own, now, end - span) }, index * LANE, x, { start: end - span, end });
  });
  $("lanes").replaceChildren(svg);
}

// What concerns the whole worker names no model, and has no lane.
const isDrawn = ({ kind, model }) => model && (kind in PHASE || kind === "gone" || groupOf(kind) === "trouble");

function drawAxis(svg, { span, end, x, height, words: [last, earlier], ticks }) {
  const step = STEPS_S.find((each) => span / each <= ticks) ?? STEPS_S.at(-1);
  for (let back = 0; back <= span; back += step) {
    const at = x(end - back);
    svg.append(shape("line", { class: "grid", x1: at, x2: at, y1: 0, y2: height - AXIS + 2 }));
    const label = shape("text", { x: at, y: height - 5, "text-anchor": back ? "middle" : "end" });
    label.textContent = back ? `${rounded(back)} ${earlier}` : last;
    svg.append(label);
  }
}

const isPhase = ({ kind }) => kind in PHASE || kind === "gone" || kind === "failed";

// What a model was, and since when, before the entries begin to tell of it: nothing, if its load does.
function firstPhase(entries, present, start) {
  const first = entries.find(isPhase);
  if (first) return [BEFORE[first.kind] ?? null, start];
  return present ? [present.state, Math.max(start, present.since)] : [null, 0];
}

function drawLane(svg, { model: name, entries, first }, top, x, { start, end }) {
  const marks = [];
  let [phase, since] = first;
  const close = (until) => {
    if (!phase || until < start) return;
    const bar = shape("rect", { class: PHASE[phase], x: x(since), y: top + 4, width: Math.max(2, x(until) - x(since)), height: 15, rx: 2 });
    svg.append(titled(bar, `${name} ${phase}`));
  };
  for (const { kind, time, model, reason } of entries) {
    if (isPhase({ kind })) {
      close(time);
      [phase, since] = [kind in PHASE ? kind : null, time];
    }
    if (groupOf(kind) === "trouble" && time >= start) marks.push(titled(diamond(x(time), top + 11.5), `${model} ${kind}: ${reason}`));
  }
  close(end);
  svg.append(...marks);
}

const diamond = (x, y) => shape("path", { class: "mark", d: `M${x} ${y - MARK}l${MARK} ${MARK}l${-MARK} ${MARK}l${-MARK} ${-MARK}z` });

// Shortens in the middle, because names of a family differ at their ends.
function fitted(name, room) {
  if (pen.measureText(name).width <= room) return name;
  let kept = name.length;
  let short = name;
  while (kept > 4 && pen.measureText(short).width > room) {
    kept -= 1;
    short = `${name.slice(0, Math.ceil(kept / 2))}…${name.slice(-Math.floor(kept / 2))}`;
  }
  return short;
}

function rounded(seconds) {
  const minutes = Math.floor(seconds / 60);
  const rest = seconds % 60;
  return [minutes && `${minutes} min`, rest && `${rest} s`].filter(Boolean).join(" ");
}

function titled(drawn, text) {
  drawn.append(shape("title", {}, text));
  return drawn;
}
