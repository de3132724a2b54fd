// The page: follows the worker's events and passes on what is asked for.

import { Actions } from "./actions.js";
import { Connection } from "./connection.js";
import { $, counted, element, share, write } from "./dom.js";
import { Keyring } from "./key.js";
import { notice } from "./notices.js";
import { Residents } from "./residents.js";
import { Speaker } from "./speak.js";
import { Timeline } from "./timeline.js";

const timeline = new Timeline();
const actions = new Actions({ problem: () => connection.problem, refused });
const residents = new Residents((verb, model) => actions.press(verb, model));
const speaker = new Speaker(refused);
const keyring = new Keyring(() => connection.again());
const connection = new Connection({
  catalog(models) {
    actions.catalog = models;
    speaker.offer(models);
    timeline.begin();
  },
  state(state) {
    residents.show(state);
    timeline.resume();
    const waiting = state.waiting ? `, ${state.waiting} waiting` : "";
    const line = state.streams_waiting ? `, ${counted(state.streams_waiting, "stream")} waiting` : "";
    const cores = `${share(state.capacity_used, 1)} of the cores in use${line}`;
    write($("limits"), `${state.models.length} of ${state.resident_cap} models in memory${waiting}; ${cores}`);
    offerAbsent(state);
  },
  journal(entry) {
    timeline.add(entry);
  },
  lost(at) {
    residents.stop(performance.now() - (Date.now() - at));
    timeline.stop(at);
  },
  refused(error) {
    if (error.status === 401) keyring.askOnce(error.message);
  },
});

function offerAbsent(state) {
  const present = new Set(state.models.map((model) => model.model));
  const absent = actions.catalog.filter((model) => !present.has(model.model));
  $("absent").replaceChildren(...absent.map((model) => element("option", { value: model.model })));
}

// Says why a press did nothing, unless that is `said` beside it already.
function refused(error, said = false) {
  if (!said) notice(error.message);
  if (error.status === 401) keyring.askOnce(error.message);
}

setInterval(() => residents.tick(), 1000);
setInterval(() => timeline.draw(), 2000);
addEventListener("resize", () => timeline.draw());
connection.followForEver();
