// One figure over time: lines or bars of the last ten minutes, with what they say in words.

import { element, shape } from "./dom.js";

const HEIGHT = 84;
const TOP = 16;
const BOTTOM = 15;

export class Chart {
  // `series` are `{ name, of, shade }`, of which `of` returns a step's value, or null; `written`
  // turns a value into words; `bars` are added up, `least` is the least value at the top; `point`
  // is called with the moment that is pointed at.
  constructor({ title, series, written, bars = false, least = 1, top = null, point }) {
    Object.assign(this, { title, series, written, bars, least, top });
    this.value = element("b");
    this.when = element("span", { class: "when" });
    this.legend = element("ul", { class: "legend plain" });
    this.drawing = element("div", { class: "drawing" });
    this.drawing.addEventListener("pointermove", (event) => point(this.momentAt(event)));
    this.drawing.addEventListener("pointerleave", () => point(null));
    this.item = element("figure", {}, element("figcaption", {}, element("span", {}, title), this.value, this.when), this.drawing, this.legend);
  }

  momentAt(event) {
    const { left, width } = this.drawing.getBoundingClientRect();
    return this.from + ((event.clientX - left) / width) * this.span;
  }

  // Draws the steps of `span` seconds until `until`; with `chosen`, says the values of that step.
  draw(steps, { until, span, chosen }) {
    this.span = span;
    this.from = until - span;
    const width = Math.max(120, this.drawing.clientWidth);
    const shown = steps.filter((step) => step.time >= this.from);
    const values = this.series.flatMap(({ of }) => shown.map(of)).filter((value) => value !== null);
    const highest = Math.max(this.least, this.top?.() ?? 0, ...values);
    const x = (time) => ((time - this.from) / span) * width;
    const y = (value) => HEIGHT - BOTTOM - (value / highest) * (HEIGHT - TOP - BOTTOM);
    const svg = shape("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", "aria-label": this.words(shown) });
    svg.append(shape("line", { class: "grid", x1: 0, x2: width, y1: y(highest), y2: y(highest) }));
    svg.append(shape("line", { class: "grid", x1: 0, x2: width, y1: y(0), y2: y(0) }));
    svg.append(shape("text", { x: 0, y: TOP - 5 }, this.written(highest)));
    svg.append(shape("text", { x: 0, y: HEIGHT - 3 }, `${Math.round(span / 60)} min ago`), shape("text", { x: width, y: HEIGHT - 3, "text-anchor": "end" }, "now"));
    for (const { of, shade } of this.series) {
      if (this.bars) svg.append(...bars(shown, of, shade, x, y));
      else svg.append(...lines(shown, of, shade, x, y));
    }
    if (chosen) svg.append(shape("line", { class: "chosen", x1: x(chosen.time), x2: x(chosen.time), y1: TOP, y2: HEIGHT - BOTTOM }));
    this.drawing.replaceChildren(svg);
    this.say(shown, chosen);
  }

  say(shown, chosen) {
    const [first, ...others] = this.series;
    const step = chosen ?? shown.at(-1);
    this.when.textContent = chosen ? new Date(chosen.time * 1000).toLocaleTimeString([], { hour12: false }) : this.bars ? "in all" : "";
    this.value.textContent = this.bars && !chosen ? this.written(total(shown, first.of)) : this.worded(step, first);
    const parts = others.length ? this.series : [];
    this.legend.replaceChildren(...parts.map((each) => element("li", {}, element("i", { class: `stroke ${each.shade}` }), `${each.name} `, element("b", {}, this.worded(step, each)))));
  }

  worded(step, { of }) {
    const value = step ? of(step) : null;
    return value === null ? "–" : this.written(value);
  }

  words(shown) {
    const parts = this.series.map((each) => {
      const values = shown.map(each.of).filter((value) => value !== null);
      if (!values.length) return `${each.name}: none`;
      if (this.bars) return `${each.name}: ${this.written(total(shown, each.of))} in all`;
      return `${each.name}: ${this.written(values.at(-1))}, at most ${this.written(Math.max(...values))}`;
    });
    return `${this.title} over ten minutes; ${parts.join("; ")}`;
  }
}

const total = (shown, of) => shown.reduce((sum, step) => sum + of(step), 0);

function bars(shown, of, shade, x, y) {
  const wide = Math.max(2, x(5) - x(0) - 1);
  return shown.filter((step) => of(step)).map((step) => {
    const top = Math.min(y(of(step)), y(0) - 2);
    return shape("rect", { class: shade, x: x(step.time) - wide, y: top, width: wide, height: y(0) - top, rx: 1 });
  });
}

// A line for each run of steps that have a value; one step alone is a dot.
function lines(shown, of, shade, x, y) {
  const runs = [[]];
  for (const step of shown) {
    if (of(step) === null) runs.push([]);
    else runs.at(-1).push(`${x(step.time).toFixed(1)},${y(of(step)).toFixed(1)}`);
  }
  return runs.filter((run) => run.length).map((run) => {
    if (run.length > 1) return shape("polyline", { class: shade, points: run.join(" ") });
    const [cx, cy] = run[0].split(",");
    return shape("circle", { class: shade, cx, cy, r: 2 });
  });
}
