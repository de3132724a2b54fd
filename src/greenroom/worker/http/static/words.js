// The text that is spoken, with the word marked that is heard, where the voice knows when that is.

import { $, element } from "./dom.js";

export class Words {
  // The text is shown once a first word is known.
  constructor(text) {
    this.frame = 0;
    this.rest = text;
    this.words = [];
    $("words").replaceChildren();
    $("words").hidden = true;
  }

  // Adds words of a piece of audio; `shift` is what makes their times those of `context`.
  add(words, shift, context) {
    for (const { word, start_time: start, end_time: end } of words ?? []) {
      const at = this.rest.indexOf(word);
      if (at < 0) continue;
      const mark = element("span", {}, word);
      if (this.tail) this.tail.remove();
      $("words").append(this.rest.slice(0, at), mark);
      this.rest = this.rest.slice(at + word.length);
      this.tail = element("span", {}, this.rest);
      $("words").append(this.tail);
      this.words.push({ mark, from: start + shift, to: end + shift });
    }
    if (!this.words.length || this.frame) return;
    $("words").hidden = false;
    const follow = () => {
      const now = context.currentTime;
      for (const { mark, from, to } of this.words) mark.className = from <= now && now < to ? "heard" : "";
      this.frame = context.state === "closed" ? 0 : requestAnimationFrame(follow);
    };
    follow();
  }

  end() {
    cancelAnimationFrame(this.frame);
    this.frame = 0;
    for (const { mark } of this.words) mark.className = "";
  }
}
