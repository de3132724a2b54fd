// Following the worker for ever, and saying how fresh is what the page shows.

import { events, Silence, Unreachable } from "./api.js";
import { $, announce, clock, write } from "./dom.js";
import { AGAIN_MS, SILENCE_MS } from "./times.js";

// Events that are passed on as they are.
const TOLD = ["journal", "figures", "streams"];

export class Connection {
  // `on` has what is called when the worker tells all from the beginning, with a state, an entry of
  // the journal, a step of the history, the streams that run, the moment of the last news once
  // there are no more, and a refusal.
  constructor(on) {
    this.on = on;
    this.problem = "";
    this.verdict = "";
    this.heardAt = 0;
    this.again = () => {};
    setInterval(() => this.count(), 1000);
  }

  async followForEver() {
    for (;;) {
      let pause = AGAIN_MS;
      try {
        await this.follow();
        this.lose("the worker has ended; waiting for it");
      } catch (error) {
        if (!error.status && !(error instanceof Unreachable)) console.error(error);
        this.lose(reason(error), error instanceof Silence);
        if (error.status) this.on.refused(error);
        if (error.status === 401) pause = SILENCE_MS;
      }
      await new Promise((resolve) => { this.again = resolve; setTimeout(resolve, pause); });
    }
  }

  async follow() {
    let begun = false;
    for await (const [name, content] of events("api/events?history=200&activity=true", () => { this.heardAt = Date.now(); })) {
      if (!begun) this.on.begin();
      begun = true;
      if (name === "state") this.told(content);
      else if (name === "end") return;
      else if (TOLD.includes(name)) this.on[name](content);
    }
  }

  told(state) {
    this.problem = "";
    this.silent = false;
    document.body.classList.remove("stale");
    $("as-of").hidden = true;
    const verdict = state.ready ? "ready" : `not ready: ${state.problems.join("; ")}`;
    this.chip(verdict, state.ready ? "good" : "bad");
    this.say(`The worker is ${verdict}.`);
    this.on.state(state);
  }

  // Says why there is no more news, and since when.
  lose(problem, silent = false) {
    this.problem = problem;
    this.silent = silent && this.heardAt > 0;
    this.chip(problem, "bad");
    this.count();
    this.say(this.heardAt ? `No news of the worker since ${clock(this.heardAt)}.` : problem);
    if (!this.heardAt) return;
    document.body.classList.add("stale");
    write($("as-of"), `as of ${clock(this.heardAt)}`);
    $("as-of").hidden = false;
    this.on.lost(this.heardAt);
  }

  count() {
    if (!this.silent) return;
    this.problem = `no news for ${Math.round((Date.now() - this.heardAt) / 1000)} s`;
    this.chip(this.problem, "bad");
  }

  // Announces a verdict that is another than the last.
  say(verdict) {
    if (verdict !== this.verdict) announce(verdict);
    this.verdict = verdict;
  }

  chip(text, tone) {
    write($("health"), text);
    $("health").className = `chip ${tone}`;
  }
}

// Says in a chip why the worker is followed no more.
function reason(error) {
  if (error.status) return error.message;
  if (error instanceof Silence) return "connected, but no answer; trying again";
  return error instanceof Unreachable ? "no worker answers; trying again" : "this page failed; trying again";
}
