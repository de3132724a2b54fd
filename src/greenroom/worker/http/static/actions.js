// What is asked of the worker with buttons and with the field: load, unload, pin, explain.

import { get, post } from "./api.js";
import { $, announce, element } from "./dom.js";
import { near } from "./near.js";
import { notice } from "./notices.js";

export class Actions {
  // `problem` returns why the worker cannot be asked, or nothing.
  constructor({ problem, refused }) {
    this.problem = problem;
    this.refused = refused;
    this.catalog = [];
    $("load-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.load($("load-model").value.trim());
    });
    $("why").addEventListener("close", () => {
      if (document.activeElement === document.body) $("load-model").focus();
    });
  }

  // Presses a button of a model's row; one that is not in memory has no state.
  async press(verb, model) {
    if (this.problem()) return notice(`${model.model}: ${this.problem()}`);
    if (verb === "unload" && model.state !== "ready") return notice(`${model.model} is ${model.state}; unload it once it is ready`);
    if (verb === "unload" && this.isNeeded(model) && !(await confirmed(model.model))) return undefined;
    try {
      if (verb === "why") return await explain(model.model);
      return await post(`api/${verb}`, { model: model.model });
    } catch (error) {
      return this.refused(error);
    }
  }

  // Without its pinned default the worker says that it is not ready.
  isNeeded(model) {
    return model.pinned && this.catalog.some((each) => each.model === model.model && each.default);
  }

  async load(model) {
    this.say(`loading ${model} …`);
    try {
      await post("api/load", { model });
      if ($("load-model").value.trim() === model) $("load-model").value = "";
      this.say("");
      announce(`${model} is loaded.`);
    } catch (error) {
      if (error.code === "model_not_found") this.offer(model);
      else if (error.status === 401 || error.status === 403) this.say("");
      else this.say(error.message, "bad");
      if (error.status) this.refused(error, error.status !== 401 && error.status !== 403);
    }
  }

  // Says that there is no such model, and which ones look like it.
  offer(typed) {
    const found = near(typed, this.catalog);
    const buttons = found.map((model) => element("button", { type: "button", class: "quiet", onclick: () => this.choose(model) }, model));
    this.say(found.length ? `No model is called “${typed}”. Did you mean` : `No model is called “${typed}”; the field lists those that there are.`, "bad");
    $("load-said").append(...buttons);
  }

  choose(model) {
    $("load-model").value = model;
    $("load-model").focus();
    this.load(model);
  }

  say(text, tone = "faint") {
    $("load-said").className = tone;
    $("load-said").replaceChildren(...(text ? [element("span", {}, text)] : []));
  }
}

async function explain(model) {
  const found = await get(`api/explain/${encodeURIComponent(model)}`);
  const [first, ...rest] = found.text.split("\n").map((line) => line.trim());
  $("why-title").textContent = model;
  $("why-summary").textContent = first.replace(`${model}: `, "");
  $("why-text").replaceChildren(...rest.map((line) => element("li", {}, line)));
  $("why").showModal();
}

let asked = 0;

// The close of one question may be told when the next one is open already.
function confirmed(model) {
  const dialog = $("confirm");
  const mine = (asked += 1);
  $("confirm-title").textContent = `Unload ${model}?`;
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    const closed = () => {
      if (mine === asked && dialog.open) return;
      dialog.removeEventListener("close", closed);
      resolve(mine === asked && dialog.returnValue === "unload");
    };
    dialog.addEventListener("close", closed);
  });
}
