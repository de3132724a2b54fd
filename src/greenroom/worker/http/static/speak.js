// Speaking a sentence: PCM is played as it comes, and the time to the first of it is shown.

import { post } from "./api.js";
import { $, element, took } from "./dom.js";

const RATE = 24000;

export class Speaker {
  constructor(refused) {
    this.refused = refused;
    $("speak-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.speak($("speak-text").value, $("speak-voice").value);
    });
    $("stop-button").addEventListener("click", () => this.stop());
  }

  offer(models) {
    const select = $("speak-voice");
    const chosen = select.value || models.find((model) => model.default)?.model;
    select.replaceChildren(...models.map((model) => element("option", { value: model.model }, model.model)));
    if (chosen) select.value = chosen;
  }

  async speak(text, voice) {
    this.stop();
    const stopping = (this.stopping = new AbortController());
    this.show("asked …");
    $("stop-button").disabled = false;
    const began = performance.now();
    const player = (this.player = new Player());
    try {
      const answer = await post("v1/audio/speech", { model: voice, voice, input: text, response_format: "pcm" }, stopping.signal);
      await this.hear(answer.body.getReader(), player, began);
      await player.end();
    } catch (error) {
      if (!stopping.signal.aborted) this.fail(error);
    } finally {
      player.close();
      if (this.stopping === stopping) $("stop-button").disabled = true;
    }
  }

  async hear(reader, player, began) {
    let first = null;
    for (;;) {
      const { value, done } = await reader.read();
      if (value?.length) {
        first ??= performance.now() - began;
        player.play(value);
      }
      if (done) break;
      this.told(first, player.seconds, null);
    }
    this.told(first ?? 0, player.seconds, (performance.now() - began) / 1000);
  }

  told(first, seconds, whole) {
    if (first === null) return;
    const rest = whole === null ? "; more is coming" : `, all of it after ${took(whole)}`;
    this.show("first audio after ", element("b", {}, took(first / 1000)), `; ${seconds.toFixed(1)} s of speech${rest}`);
  }

  show(...content) {
    $("spoken").className = "";
    $("spoken").replaceChildren(...content);
  }

  fail(error) {
    $("spoken").className = "bad";
    $("spoken").textContent = error.message;
    this.refused(error);
  }

  stop() {
    this.stopping?.abort();
    this.player?.close();
  }
}

// Plays pieces of signed 16-bit samples one after another without a seam.
class Player {
  constructor() {
    this.context = new AudioContext({ sampleRate: RATE });
    this.next = 0;
    this.seconds = 0;
    this.rest = new Uint8Array();
  }

  play(bytes) {
    const all = new Uint8Array(this.rest.length + bytes.length);
    all.set(this.rest);
    all.set(bytes, this.rest.length);
    const even = all.length & ~1;
    this.rest = all.slice(even);
    if (!even || this.context.state === "closed") return;
    const view = new DataView(all.buffer, 0, even);
    const buffer = this.context.createBuffer(1, even / 2, RATE);
    const samples = buffer.getChannelData(0);
    for (let i = 0; i < samples.length; i += 1) samples[i] = view.getInt16(2 * i, true) / 32768;
    const source = this.context.createBufferSource();
    source.buffer = buffer;
    source.connect(this.context.destination);
    this.next = Math.max(this.next, this.context.currentTime + 0.02);
    source.start(this.next);
    this.next += buffer.duration;
    this.seconds += buffer.duration;
  }

  // Resolves when what was played has been heard.
  end() {
    const left = this.context.state === "running" ? this.next - this.context.currentTime : 0;
    return new Promise((resolve) => setTimeout(resolve, Math.max(0, left * 1000)));
  }

  close() {
    if (this.context.state !== "closed") this.context.close();
  }
}
