// Names that look like one that does not exist.

const pairs = (name) => {
  const padded = ` ${name.toLowerCase()} `;
  return Array.from({ length: padded.length - 1 }, (_, at) => padded.slice(at, at + 2));
};

// The share of pairs of letters that two names have in common, from 0 to 1.
function likeness(one, other) {
  const left = pairs(other);
  const of = left.length + one.length + 1;
  let common = 0;
  for (const pair of pairs(one)) {
    const at = left.indexOf(pair);
    if (at < 0) continue;
    left.splice(at, 1);
    common += 1;
  }
  return (2 * common) / of;
}

// At most `count` models of the catalog, the likeliest first; aliases count as names.
export function near(typed, catalog, count = 3) {
  const scored = catalog.map((model) => ({ model: model.model, score: Math.max(...[model.model, ...model.aliases].map((name) => likeness(typed, name))) }));
  const best = Math.max(...scored.map(({ score }) => score));
  return scored
    .filter(({ score }) => score > 0.3 && score > 0.6 * best)
    .sort((one, other) => other.score - one.score)
    .slice(0, count)
    .map(({ model }) => model);
}
