// Requests that were refused in the last ten minutes, above all else as long as there are any. The
// figures keep no older steps.

import { $, clock, counted, write } from "./dom.js";
import { refusedIn } from "./figures.js";

const SPAN_S = 600;

// The manager's reasons, and the worker's limits.
const REASONS = {
  shutdown: "as the worker was ending",
  backing_off: "as the model has just failed to load",
  load_failed: "as the model could not be loaded",
  too_big: "as the model is larger than the budget",
  no_room: "for want of room",
  line_full: "as too many waited",
  timed_out: "after waiting too long for room",
  overdrawn: "as the process takes more than its budget",
  sessions: "for too many sessions",
  streams: "for too many streams",
  requests: "for too many requests",
  watches: "for too many watches",
  followers: "for too many followers of events",
  overload: "as one more stream could not be kept up",
  key_sessions: "for too many sessions of one key",
  key_streams: "for too many streams of one key",
  key_requests: "for too many requests of one key",
};

export class Refusals {
  constructor(figures) {
    this.figures = figures;
    this.last = null;
  }

  begin() {
    this.last = null;
  }

  add(entry) {
    if (entry.kind !== "refused") return;
    this.last = entry;
    this.show();
  }

  // Time is the worker's, as that of its latest step and entry: a viewer's clock may be wrong.
  show() {
    const { steps } = this.figures;
    const now = Math.max(steps.at(-1)?.time ?? 0, this.last?.time ?? 0);
    const last = this.last && this.last.time > now - SPAN_S ? this.last : null;
    // What was refused since the last step counts once, until the next one has it.
    const total = steps.reduce((sum, step) => sum + refusedIn(step), 0);
    $("refused-card").hidden = !total && !last;
    if (!total && !last) return;
    write($("refused-title"), `${counted(Math.max(total, 1), "request")} refused in the last ten minutes`);
    write($("refused-why"), reasons(steps));
    const said = last ? `The last at ${clock(last.time * 1000)}: ${last.model}: ${last.reason}${last.owner ? ` (${last.owner})` : ""}` : "";
    write($("refused-last"), said);
  }
}

function reasons(steps) {
  const counts = {};
  for (const { refused } of steps) for (const [reason, count] of Object.entries(refused)) counts[reason] = (counts[reason] ?? 0) + count;
  const most = Object.entries(counts).sort(([, one], [, other]) => other - one);
  return most.map(([reason, count]) => `${count} ${REASONS[reason] ?? `(${reason})`}`).join(", ");
}
