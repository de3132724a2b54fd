// The figures of the last ten minutes: streams, first audio, gaps, refusals, memory, processors.

import { Chart } from "./chart.js";
import { $, size, took } from "./dom.js";

const SPAN_S = 600;
const MB = 1048576;

const count = (value) => String(Math.round(value));

export const refusedIn = (step) => Object.values(step.refused).reduce((sum, each) => sum + each, 0);

export class Figures {
  constructor() {
    this.steps = [];
    this.cores = 1;
    this.moment = null;
    const point = (moment) => {
      this.moment = moment;
      this.draw();
    };
    this.charts = [
      new Chart({ title: "Streams at once", series: [{ name: "streams", of: (step) => step.streams, shade: "green" }], written: count, point }),
      new Chart({ title: "First audio", series: [
        { name: "half within", of: (step) => step.first_audio_p50_s, shade: "green" },
        { name: "95 % within", of: (step) => step.first_audio_p95_s, shade: "blue" },
      ], written: took, least: 0.1, point }),
      new Chart({ title: "Gaps in speech", series: [{ name: "gaps", of: (step) => step.gaps, shade: "amber" }], written: count, bars: true, point }),
      new Chart({ title: "Refused", series: [{ name: "refused", of: refusedIn, shade: "red" }], written: count, bars: true, point }),
      new Chart({ title: "Memory", series: [
        { name: "proportional", of: (step) => step.memory?.proportional ?? null, shade: "blue" },
        { name: "anonymous", of: (step) => step.memory?.anonymous ?? null, shade: "green" },
      ], written: size, least: MB, point }),
      new Chart({ title: "Cores busy", series: [{ name: "cores", of: (step) => step.cores_busy, shade: "green" }], written: (value) => value.toFixed(value && value < 10 ? 2 : 0), top: () => this.cores, point }),
    ];
    $("figures").replaceChildren(...this.charts.map((chart) => chart.item));
  }

  // Forgets what was told: the worker tells its history again.
  begin() {
    this.steps = [];
  }

  add(step) {
    this.steps.push(step);
    this.steps = this.steps.filter((each) => each.time > step.time - SPAN_S);
    if (this.waiting) return;
    this.waiting = requestAnimationFrame(() => {
      this.waiting = 0;
      this.draw();
    });
  }

  draw() {
    if (!this.steps.length) return;
    $("no-figures").hidden = true;
    $("figures").hidden = false;
    const until = this.steps.at(-1).time;
    const chosen = this.moment === null ? null : nearest(this.steps, this.moment);
    for (const chart of this.charts) chart.draw(this.steps, { until, span: SPAN_S, chosen });
  }
}

function nearest(steps, moment) {
  const distance = (step) => Math.abs(step.time - moment);
  return steps.reduce((best, step) => (distance(step) < distance(best) ? step : best));
}
