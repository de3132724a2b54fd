// What a program would say to have the same spoken: a line of curl, and OpenAI's Python library.

import { hasKey } from "./api.js";
import { $, announce, write } from "./dom.js";

const VARIABLE = "GREENROOM_API_KEY";

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

function curl(body, file) {
  const key = hasKey() ? [`-H "Authorization: Bearer $${VARIABLE}"`] : [];
  return [
    `curl ${location.origin}/v1/audio/speech`, ...key, "-H 'Content-Type: application/json'",
    `-d ${quoted(JSON.stringify(body))}`, `-o ${file}`,
  ].join(" \\\n  ");
}

function python(body, file) {
  const key = hasKey() ? `os.environ["${VARIABLE}"]` : '"none"';
  const fields = Object.entries(body).map(([name, value]) => `    ${name}=${JSON.stringify(value)},`);
  return [
    ...(hasKey() ? ["import os", ""] : []),
    "from openai import OpenAI", "",
    `client = OpenAI(base_url="${location.origin}/v1", api_key=${key})`,
    "with client.audio.speech.with_streaming_response.create(",
    ...fields,
    ") as answer:",
    `    answer.stream_to_file("${file}")`,
  ].join("\n");
}

export function showSnippets(body, file) {
  write($("snippet-curl"), curl(body, file));
  write($("snippet-python"), python(body, file));
}

for (const button of document.querySelectorAll("[data-copies]")) {
  button.addEventListener("click", () => copy($(button.dataset.copies), button));
}

// Without a secure context there is no clipboard: then the text is selected, for who copies.
async function copy(source, button) {
  getSelection().selectAllChildren(source);
  try {
    await navigator.clipboard.writeText(source.textContent);
  } catch {
    if (!document.execCommand("copy")) return announce("The text is selected.");
  }
  write(button, "Copied");
  setTimeout(() => write(button, "Copy"), 2000);
  return announce("Copied.");
}
