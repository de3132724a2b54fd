// Speaking a sentence: PCM is played as it comes, and the time to the first of it is shown.

import { pieces, post } from "./api.js";
import { $, announce, element, isUsable, took, usable } from "./dom.js";
import { Player } from "./player.js";

export class Speaker {
  constructor(refused) {
    this.refused = refused;
    $("speak-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.speak($("speak-text").value, $("speak-voice").value);
    });
    $("stop-button").addEventListener("click", () => this.halt());
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
    usable($("stop-button"), true);
    const began = performance.now();
    const player = (this.player = new Player());
    try {
      const answer = await post("v1/audio/speech", { model: voice, voice, input: text, response_format: "pcm" }, stopping.signal);
      await this.hear(answer, player, began);
      announce($("spoken").textContent);
      await player.end();
    } catch (error) {
      if (!stopping.signal.aborted) this.fail(error);
    } finally {
      player.close();
      if (this.stopping === stopping) usable($("stop-button"), false);
    }
  }

  async hear(answer, player, began) {
    let first = null;
    for await (const piece of pieces(answer)) {
      if (!piece.length) continue;
      first ??= performance.now() - began;
      player.play(piece);
      this.told(first, player.seconds, "; more is coming");
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
