// Who holds a model: the first few in words, those of one API key together, all of them on demand.

import { element } from "./dom.js";

const SHOWN = 3;
const OWNER = /^(.+?) of (.+?)(?: at \S+)?$/;
const ADDRESS = /:\d+$|^unix:/;

// What an owner does and under which key; without a key there is no name.
function parsed(owner) {
  const [, does, name] = OWNER.exec(owner) ?? [];
  const named = name && name !== "a local client" && !ADDRESS.test(name);
  return named ? { name, does: does.startsWith("session ") ? "session" : does } : { name: null };
}

function grouped(owners) {
  const groups = new Map();
  owners.forEach((owner, index) => {
    const { name, does } = parsed(owner);
    const key = name === null ? index : name;
    if (!groups.has(key)) groups.set(key, { name, owners: [], counts: new Map() });
    const group = groups.get(key);
    group.owners.push(owner);
    group.counts.set(does, (group.counts.get(does) ?? 0) + 1);
  });
  return [...groups.values()].sort((one, other) => other.owners.length - one.owners.length);
}

function worded({ name, owners, counts }) {
  if (owners.length === 1) return owners[0];
  return `${name} (${[...counts].map(([does, count]) => `${count} × ${does}`).join(", ")})`;
}

// A part of a row that keeps its open list open while its content changes.
export class Holders {
  constructor() {
    this.line = element("span");
    this.summary = element("summary");
    this.all = element("ul", { class: "plain", tabindex: "0", "aria-label": "all holders" });
    this.more = element("details", { hidden: "" }, this.summary, this.all);
    this.item = element("div", { class: "holders" }, this.line, this.more);
  }

  show(model) {
    const { references, streams, owners } = model;
    const told = JSON.stringify([references, streams, owners]);
    if (told === this.told) return;
    this.told = told;
    const groups = grouped(owners);
    const first = groups.slice(0, SHOWN);
    const rest = owners.length - first.reduce((sum, group) => sum + group.owners.length, 0);
    this.line.replaceChildren(...this.words(model, first));
    this.more.hidden = !rest && first.length === owners.length;
    this.summary.textContent = rest ? `and ${rest} more` : `all ${owners.length}`;
    this.all.replaceChildren(...owners.map((owner) => element("li", {}, owner)));
  }

  words({ references, streams }, first) {
    if (!references && !streams) return [];
    const count = `${references} ${references === 1 ? "reference" : "references"}`;
    const speaking = streams ? `, ${streams} speaking` : "";
    const by = first.length ? [" by ", first.map(worded).join(", ")] : [];
    return [element("b", {}, count + speaking), ...by];
  }
}
