// The page: follows the worker's events and passes on what is asked for.

import { Actions } from "./actions.js";
import { get } from "./api.js";
import { Connection } from "./connection.js";
import { $, counted, element, share, write } from "./dom.js";
import { Figures } from "./figures.js";
import { Keyring } from "./key.js";
import { Links } from "./links.js";
import { showProcess } from "./memory.js";
import { notice } from "./notices.js";
import { Pulls } from "./pulls.js";
import { Refusals } from "./refusals.js";
import { Residents } from "./residents.js";
import { Speaker } from "./speak.js";
import { Streams } from "./streams.js";
import { Timeline } from "./timeline.js";
import { Voices } from "./voices.js";

const problem = () => connection.problem;
const timeline = new Timeline();
const figures = new Figures();
const refusals = new Refusals(figures);
const actions = new Actions({ problem, refused });
const press = (verb, model) => actions.press(verb, model);
const residents = new Residents(press);
const voices = new Voices(press);
const streams = new Streams({ problem, refused });
const pulls = new Pulls(refused);
const speaker = new Speaker(refused);
const links = new Links(refused);
const keyring = new Keyring(() => connection.again());

let catalogVersion = null;
let latest = null;

const connection = new Connection({
  begin() {
    catalogVersion = null;
    timeline.begin();
    figures.begin();
    refusals.begin();
    pulls.look();
    links.tellVersion();
  },
  state(state) {
    latest = state;
    if (state.catalog_version !== catalogVersion) readCatalog(state.catalog_version);
    residents.show(state);
    voices.show(state);
    timeline.resume(state.models);
    figures.cores = state.cores;
    const waiting = state.waiting ? `, ${state.waiting} waiting` : "";
    const line = state.streams_waiting ? `, ${counted(state.streams_waiting, "stream")} waiting` : "";
    const cores = `${share(state.capacity_used, 1)} of the cores in use${line}`;
    write($("limits"), `${state.models.length} of ${state.resident_cap} models in memory${waiting}; ${cores}`);
    offerAbsent();
  },
  journal(entry) {
    timeline.add(entry);
    refusals.add(entry);
    voices.hear(entry);
  },
  figures(step) {
    figures.add(step);
    refusals.show();
    showProcess(step.memory, step.engines);
  },
  streams(running) {
    streams.show(running);
  },
  lost(at) {
    residents.stop(performance.now() - (Date.now() - at));
    voices.stop();
    streams.stop();
    timeline.stop(at);
  },
  refused(error) {
    if (error.status === 401) keyring.askOnce(error.message);
  },
});

// Asked for once the state is there, so that the list is no older than it.
async function readCatalog(version) {
  catalogVersion = version;
  try {
    const { models } = await get("api/tags");
    if (version !== catalogVersion) return;
    actions.catalog = models;
    speaker.offer(models);
    voices.offer(models);
    offerAbsent();
  } catch (error) {
    if (version === catalogVersion) catalogVersion = null;
    refused(error);
  }
}

function offerAbsent() {
  const present = new Set(latest.models.map((model) => model.model));
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
addEventListener("resize", () => {
  timeline.draw();
  figures.draw();
});
connection.followForEver();
