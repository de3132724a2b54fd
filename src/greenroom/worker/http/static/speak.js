// Speaking a sentence: PCM is played as it comes, the time to the first of it is shown, and words are
// marked as they are heard; or the same as a file, in any format, and as a program asks for it.

import { lines, post } from "./api.js";
import { $, announce, element, isUsable, took, usable } from "./dom.js";
import { Player } from "./player.js";
import { showSnippets } from "./snippets.js";
import { Words } from "./words.js";

const SUFFIXES = { opus: "ogg", pcm: "pcm", mulaw: "ul", alaw: "al" };

export class Speaker {
  constructor(refused) {
    this.refused = refused;
    $("speak-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.speak();
    });
    $("stop-button").addEventListener("click", () => this.halt());
    $("download-button").addEventListener("click", () => {
      if ($("speak-form").reportValidity()) this.download();
    });
    for (const id of ["speak-text", "speak-voice", "speak-speed", "speak-format"]) {
      $(id).addEventListener("input", () => this.describe());
    }
    $("key-dialog").addEventListener("close", () => this.describe());
    this.describe();
  }

  offer(models) {
    const select = $("speak-voice");
    const chosen = select.value || models.find((model) => model.default)?.model;
    select.replaceChildren(...models.map((model) => element("option", { value: model.model }, model.model)));
    if (chosen) select.value = chosen;
    this.describe();
  }

  // What is asked for in words of OpenAI.
  asked(format) {
    const voice = $("speak-voice").value;
    const speed = Number($("speak-speed").value);
    return { model: voice, voice, input: $("speak-text").value, response_format: format, ...(speed === 1 ? {} : { speed }) };
  }

  get format() {
    return $("speak-format").value;
  }

  get file() {
    return `speech.${SUFFIXES[this.format] ?? this.format.split("_")[0]}`;
  }

  describe() {
    $("speak-speed-shown").textContent = `${Number($("speak-speed").value).toFixed(2)} ×`;
    showSnippets(this.asked(this.format), this.file);
  }

  async speak() {
    await this.doing(async (stopping, began) => {
      const player = (this.player = new Player());
      const body = this.asked("pcm");
      const words = new Words(body.input);
      try {
        const answer = await post("dev/captioned_speech", { ...body, stream: true }, stopping.signal);
        await this.hear(answer, { player, words, began });
        announce($("spoken").textContent);
        await player.end();
      } finally {
        player.close();
        words.end();
      }
    });
  }

  async download() {
    await this.doing(async (stopping, began) => {
      const answer = await post("v1/audio/speech", this.asked(this.format), stopping.signal);
      const content = await answer.blob();
      const link = element("a", { href: URL.createObjectURL(content), download: this.file });
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
      this.show(element("b", {}, this.file), `, ${Math.ceil(content.size / 1024)} kB, after ${took((performance.now() - began) / 1000)}`);
      announce(`${this.file} is downloaded.`);
    });
  }

  // Does one thing after another: what comes ends what was before, and what fails is said.
  async doing(work) {
    this.stop();
    const stopping = (this.stopping = new AbortController());
    this.show("asked …");
    usable($("stop-button"), true);
    try {
      await work(stopping, performance.now());
    } catch (error) {
      if (!stopping.signal.aborted) this.fail(error);
    } finally {
      if (this.stopping === stopping) usable($("stop-button"), false);
    }
  }

  async hear(answer, { player, words, began }) {
    let first = null;
    for await (const { audio, timestamps, error } of lines(answer)) {
      if (error) throw new Error(error.message ?? error);
      if (audio) {
        first ??= performance.now() - began;
        player.play(Uint8Array.from(atob(audio), (letter) => letter.charCodeAt(0)));
      }
      words.add(timestamps, player.shift, player.context);
      if (first !== null) this.told(first, player.seconds, "; more is coming");
    }
    this.told(first ?? 0, player.seconds, `, all of it after ${took((performance.now() - began) / 1000)}`);
  }

  told(first, seconds, rest) {
    this.show("first audio after ", element("b", {}, took(first / 1000)), `; ${seconds.toFixed(1)} s of speech${rest}`);
  }

  show(...content) {
    $("spoken").className = "";
    $("spoken").replaceChildren(...content);
  }

  fail(error) {
    $("spoken").className = "bad";
    $("spoken").textContent = error.message;
    announce(error.message);
    this.refused(error, error.status !== 401 && error.status !== 403);
  }

  halt() {
    if (!isUsable($("stop-button"))) return;
    this.stop();
    this.show("stopped");
  }

  stop() {
    this.stopping?.abort();
    this.player?.close();
  }
}
