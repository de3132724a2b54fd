// Asking the worker: JSON with the key of this tab, and server-sent events read with fetch, because
// an EventSource cannot send a key.

import { SILENCE_MS } from "./times.js";

const KEY = "greenroom-key";

// The worker answered that it will not.
export class Refusal extends Error {
  constructor(message, status, code) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

// The worker did not answer, or stopped in the middle of it.
export class Unreachable extends Error {}

// It is connected, and says nothing.
export class Silence extends Unreachable {}

export function useKey(key) {
  sessionStorage.setItem(KEY, key);
}

export const hasKey = () => Boolean(sessionStorage.getItem(KEY));

function headers(key, more = {}) {
  return key ? { ...more, Authorization: `Bearer ${key}` } : more;
}

async function ask(path, { key = sessionStorage.getItem(KEY), more, ...options } = {}) {
  const answer = await fetch(path, { cache: "no-store", headers: headers(key, more), ...options }).catch(explained);
  if (answer.ok) return answer;
  const { error = {} } = await answer.json().catch(() => ({}));
  throw new Refusal(wording(answer.status, key) ?? error.message ?? `the worker answered ${answer.status}`, answer.status, error.code);
}

function wording(status, key) {
  if (status !== 401) return undefined;
  return key ? "the worker does not know this API key" : "this worker wants an API key";
}

function explained(error) {
  if (error.name === "TimeoutError") throw new Silence(`the worker at ${location.host} is connected but does not answer`);
  if (error.name === "TypeError") throw new Unreachable(`no worker answers at ${location.host}: it has ended, or the network is down`);
  throw error;
}

export async function get(path, key) {
  const answer = await ask(path, { key, signal: AbortSignal.timeout(SILENCE_MS) });
  return answer.json().catch(explained);
}

export function post(path, body, signal) {
  return ask(path, { method: "POST", more: { "Content-Type": "application/json" }, body: JSON.stringify(body), signal });
}

export function remove(path) {
  return ask(path, { method: "DELETE", signal: AbortSignal.timeout(SILENCE_MS) });
}

// Opens what a browser would open by itself, if it could send a key.
export async function open(path) {
  const answer = await ask(path, { signal: AbortSignal.timeout(SILENCE_MS) });
  window.open(URL.createObjectURL(await answer.blob()), "_blank");
}

// Yields the pieces of an answer as they come.
export async function* pieces(answer) {
  const reader = answer.body.getReader();
  for (;;) {
    const { value, done } = await reader.read().catch(explained);
    if (done) return;
    yield value;
  }
}

// Yields what each line of an answer says in JSON.
export async function* lines(answer) {
  const decoder = new TextDecoder();
  let text = "";
  for await (const piece of pieces(answer)) {
    const parts = (text + decoder.decode(piece, { stream: true })).split("\n");
    text = parts.pop();
    for (const part of parts) if (part) yield JSON.parse(part);
  }
  if (text) yield JSON.parse(text);
}

// Yields [name, content] until the worker ends the stream; `heard` is called for every sign of life.
// Throws when the stream cannot be had, breaks, or is silent for too long.
export async function* events(path, heard) {
  const patience = new AbortController();
  const giveUp = () => patience.abort(new DOMException("silent", "TimeoutError"));
  let timer = setTimeout(giveUp, SILENCE_MS);
  try {
    const decoder = new TextDecoder();
    let text = "";
    for await (const piece of pieces(await ask(path, { signal: patience.signal }))) {
      clearTimeout(timer);
      timer = setTimeout(giveUp, SILENCE_MS);
      heard();
      const parts = (text + decoder.decode(piece, { stream: true })).split("\n\n");
      text = parts.pop();
      for (const part of parts) {
        const name = /^event: (.*)$/m.exec(part)?.[1];
        const data = /^data: (.*)$/m.exec(part)?.[1];
        if (name && data) yield [name, JSON.parse(data)];
      }
    }
  } finally {
    clearTimeout(timer);
    patience.abort();
  }
}
