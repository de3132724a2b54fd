// The page: follows the worker's events and passes on what is asked for.

import { events, get, post, useKey } from "./api.js";
import { $, element } from "./dom.js";
import { Residents } from "./residents.js";
import { Speaker } from "./speak.js";
import { Timeline } from "./timeline.js";

const AGAIN_MS = 2000;
const timeline = new Timeline();
const residents = new Residents(act);
const speaker = new Speaker(refused);
let catalog = [];

function showState(state) {
  residents.show(state);
  const waiting = state.waiting ? `, ${state.waiting} waiting` : "";
  $("limits").textContent = `${state.models.length} of ${state.resident_cap} models in memory${waiting}`;
  health(state.ready ? "ready" : `not ready: ${state.problems.join("; ")}`, state.ready ? "good" : "bad");
  offerAbsent(state);
}

function offerAbsent(state) {
  const present = new Set(state.models.map((model) => model.model));
  const absent = catalog.filter((model) => !present.has(model.model));
  $("absent").replaceChildren(...absent.map((model) => element("option", { value: model.model })));
}

function health(text, tone) {
  $("health").textContent = text;
  $("health").className = `chip ${tone}`;
}

let hiding = 0;
function complain(text) {
  clearTimeout(hiding);
  $("trouble").textContent = text;
  $("trouble").hidden = false;
  hiding = setTimeout(() => { $("trouble").hidden = true; }, 8000);
}

function refused(error) {
  if (error.status === 401 || error.status === 403) askKey();
}

async function act(verb, model) {
  try {
    if (verb === "why") return await explain(model);
    return await post(`api/${verb}`, { model });
  } catch (error) {
    complain(error.message);
    refused(error);
  }
}

async function explain(model) {
  const found = await get(`api/explain/${encodeURIComponent(model)}`);
  $("why-title").textContent = model;
  $("why-text").textContent = found.text;
  $("why").showModal();
}

$("load-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const model = $("load-model").value.trim();
  $("load-model").value = "";
  await act("load", model);
});

// The key

function askKey() {
  if (!$("key-dialog").open) $("key-dialog").showModal();
}

let tryAgain = () => {};
$("key-button").addEventListener("click", askKey);
$("key-dialog").addEventListener("close", () => {
  if ($("key-dialog").returnValue === "use") {
    useKey($("key").value.trim());
    tryAgain();
  }
  $("key").value = "";
});

// Following

async function follow() {
  catalog = (await get("api/tags")).models;
  speaker.offer(catalog);
  timeline.clear();
  for await (const [name, content] of events("api/events?history=200")) {
    if (name === "state") showState(content);
    else if (name === "journal") timeline.add(content);
    else if (name === "end") return;
  }
}

async function followForEver() {
  for (;;) {
    try {
      await follow();
      health("the worker has ended; waiting for it", "bad");
    } catch (error) {
      health(error.status ? error.message : "no worker answers; trying again", "bad");
      refused(error);
    }
    await new Promise((resolve) => { tryAgain = resolve; setTimeout(resolve, AGAIN_MS); });
  }
}

setInterval(() => residents.state && residents.tick(), 1000);
setInterval(() => timeline.draw(), 2000);
addEventListener("resize", () => timeline.draw());
followForEver();
