// Pulling voices from the index, for administrators: what is asked for, and how far each is.

import { get, post, remove } from "./api.js";
import { $, announce, element, size, write } from "./dom.js";
import { PULLS_MS } from "./times.js";

const TONE = { waiting: "busy", pulling: "busy", pulled: "good", "here already": "good", failed: "bad", stopped: "" };
const isUnderWay = ({ state }) => state === "waiting" || state === "pulling";

export class Pulls {
  constructor(refused) {
    this.refused = refused;
    this.rows = new Map();
    $("pull-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.pull($("pull-name").value.trim());
    });
  }

  // Shows the part only to who may pull, at a worker that can.
  async look() {
    try {
      this.show((await get("api/pulls")).pulls);
      $("pulls-part").hidden = false;
    } catch {
      $("pulls-part").hidden = true;
    }
  }

  async pull(name) {
    this.say("");
    try {
      const answer = await post("api/pull", { model: name });
      answer.body.cancel();  // it goes on; how far it is, the list says
      $("pull-name").value = "";
      await this.watch();
    } catch (error) {
      this.say(error.message);
      if (error.status) this.refused(error, error.status !== 401);
    }
  }

  // Asks for the list until nothing is under way any more.
  async watch() {
    if (this.watching) return;
    this.watching = true;
    try {
      for (;;) {
        const { pulls } = await get("api/pulls");
        this.show(pulls);
        if (!pulls.some(isUnderWay)) return;
        await new Promise((resolve) => setTimeout(resolve, PULLS_MS));
      }
    } catch (error) {
      this.say(error.message);
    } finally {
      this.watching = false;
    }
  }

  show(pulls) {
    const present = new Set(pulls.map(({ voice }) => voice));
    for (const [voice, row] of this.rows) {
      if (present.has(voice)) continue;
      row.item.remove();
      this.rows.delete(voice);
    }
    for (const pull of pulls) {
      if (!this.rows.has(pull.voice)) this.rows.set(pull.voice, this.makeRow(pull.voice));
      this.fill(this.rows.get(pull.voice), pull);
    }
    if (pulls.some(isUnderWay)) this.watch();
  }

  makeRow(voice) {
    const row = { chip: element("span"), bar: element("progress", { "aria-label": `How much of ${voice} is here` }), said: element("span", { class: "faint" }) };
    row.button = element("button", { type: "button", class: "quiet", "aria-label": `Stop pulling ${voice}`, onclick: () => this.stop(voice) }, "Stop");
    row.item = element("li", { class: "pull", "data-pull": voice }, element("div", { class: "top" }, element("strong", {}, voice), row.chip), row.bar, row.said, row.button);
    $("pulls").prepend(row.item);
    return row;
  }

  fill(row, pull) {
    const { voice, state, completed, total, problem, licence } = pull;
    if (row.state && row.state !== state && !isUnderWay(pull)) announce(`${voice}: ${state}`);
    row.state = state;
    write(row.chip, state);
    row.chip.className = `chip ${TONE[state]}`;
    if (total) Object.assign(row.bar, { max: total, value: completed });
    else row.bar.removeAttribute("value");
    row.bar.hidden = row.button.hidden = !isUnderWay(pull);
    const amount = total ? `${size(completed)} of ${size(total)}` : "";
    write(row.said, isUnderWay(pull) ? amount : problem ?? (licence ? `licence: ${licence}` : ""));
  }

  async stop(voice) {
    try {
      const answer = await remove(`api/pulls/${encodeURIComponent(voice)}`);
      this.show((await answer.json()).pulls);
    } catch (error) {
      this.refused(error);
    }
  }

  say(text) {
    write($("pull-said"), text);
    $("pull-said").hidden = !text;
  }
}
