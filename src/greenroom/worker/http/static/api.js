// Asking the worker: JSON with the key of this tab, and server-sent events read with fetch, because
// an EventSource cannot send a key.

const KEY = "greenroom-key";

export class Refusal extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

export function useKey(key) {
  sessionStorage.setItem(KEY, key);
}

function headers(more = {}) {
  const key = sessionStorage.getItem(KEY);
  return key ? { ...more, Authorization: `Bearer ${key}` } : more;
}

async function checked(answer) {
  if (answer.ok) return answer;
  const body = await answer.json().catch(() => ({}));
  throw new Refusal(body.error?.message ?? `the worker answered ${answer.status}`, answer.status);
}

export async function get(path) {
  const answer = await checked(await fetch(path, { headers: headers(), cache: "no-store" }));
  return answer.json();
}

export async function post(path, body, signal) {
  const sent = { method: "POST", headers: headers({ "Content-Type": "application/json" }), signal };
  return checked(await fetch(path, { ...sent, body: JSON.stringify(body) }));
}

// Yields [name, content] until the worker ends the stream; throws when it cannot be had.
export async function* events(path) {
  const answer = await checked(await fetch(path, { headers: headers(), cache: "no-store" }));
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (text + value).split("\n\n");
    text = parts.pop();
    for (const part of parts) {
      const name = /^event: (.*)$/m.exec(part)?.[1];
      const data = /^data: (.*)$/m.exec(part)?.[1];
      if (name && data) yield [name, JSON.parse(data)];
    }
  }
}
