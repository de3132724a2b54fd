// How long the page waits, in milliseconds.

// The worker says something every 15 s at least; after this long without a byte it is taken for frozen.
export const SILENCE_MS = 35_000;

// Between two attempts to follow a worker that does not answer.
export const AGAIN_MS = 2_000;

// Between two looks at pulls that are under way.
export const PULLS_MS = 1_000;

// How long a notice stays.
export const NOTICE_MS = 12_000;
