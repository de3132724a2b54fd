// The streams that run or wait: who hears them, since when, how far ahead, and a button to end each.

import { remove } from "./api.js";
import { $, duration, element, took, usable, write } from "./dom.js";
import { notice } from "./notices.js";

const TONE = { waiting: "busy", beginning: "busy", speaking: "good", paused: "" };

export class Streams {
  // `problem` returns why the worker cannot be asked, or nothing.
  constructor({ problem, refused }) {
    this.problem = problem;
    this.refused = refused;
    this.rows = new Map();
  }

  show({ count, streams }) {
    const present = new Set(streams.map((stream) => stream.number));
    for (const [number, row] of this.rows) if (!present.has(number)) this.leave(number, row);
    for (const stream of streams) {
      if (!this.rows.has(stream.number)) this.rows.set(stream.number, this.makeRow(stream));
      this.fill(this.rows.get(stream.number), stream);
    }
    const more = count - streams.length;
    write($("streams-said"), more > 0 ? `and ${more} more` : "Nothing is being said.");
    $("streams-said").hidden = count > 0 && more <= 0;
    write($("streams-count"), count ? String(count) : "");
  }

  // Passes the focus on to the next row.
  leave(number, row) {
    const next = (row.item.nextElementSibling ?? row.item.previousElementSibling)?.querySelector("button");
    if (row.item.contains(document.activeElement)) (next ?? $("streams-title")).focus();
    row.item.remove();
    this.rows.delete(number);
  }

  makeRow({ number, model, owner }) {
    const row = { chip: element("span", { class: "chip" }), facts: element("div", { class: "facts" }) };
    row.button = element("button", { type: "button", class: "quiet", "aria-label": `End stream ${number} of ${model}`, onclick: () => this.end(number) }, "End");
    row.item = element("li", { class: "stream", "data-stream": number },
      element("div", { class: "top" }, element("strong", {}, model), row.chip),
      element("div", { class: "holders" }, owner || "a caller without a name"), row.facts, row.button);
    $("streams").append(row.item);
    return row;
  }

  fill(row, { state, age_s: age, first_audio_s: first, audio_s: audio, ahead_s: ahead, gaps, late_s: late }) {
    write(row.chip, state);
    row.chip.className = `chip ${TONE[state]}`;
    const facts = [["for ", duration(age)]];
    if (first !== null) facts.push(["first audio after ", took(first)], ["taken ", `${audio.toFixed(1)} s`]);
    if (ahead !== null) facts.push(["ahead ", `${ahead.toFixed(1)} s`]);
    if (gaps) facts.push([gaps === 1 ? "a silence of " : `${gaps} silences, in all `, took(late)]);
    row.facts.replaceChildren(...facts.map(([name, value]) => element("span", {}, name, element("b", {}, value))));
    usable(row.button, true);
  }

  async end(number) {
    if (this.problem()) return notice(`stream ${number}: ${this.problem()}`);
    try {
      const { ended } = await (await remove(`api/streams/${number}`)).json();
      return ended || notice(`stream ${number} was over already`);
    } catch (error) {
      return this.refused(error);
    }
  }

  stop() {
    for (const { button } of this.rows.values()) usable(button, false);
  }
}
