// What states and entries of the journal have in common, which is how they are coloured.

// Of a model's state, everywhere on the page.
export const PHASE = { loading: "coming", warming: "coming", ready: "ready", draining: "going", unloading: "going" };

const KINDS = {
  coming: ["loading", "warming", "ready", "joined", "waiting", "expected", "preparing", "prepared", "upgraded", "recovered"],
  going: ["draining", "unloading", "gone", "pinned", "unpinned", "kept", "parked", "forgotten"],
  trouble: ["refused", "failed", "overdue", "crashed", "recycled", "leaking", "unprepared", "overdrawn", "silent"],
};

// Of an entry of the journal.
export const groupOf = (kind) => Object.keys(KINDS).find((group) => KINDS[group].includes(kind)) ?? "going";
