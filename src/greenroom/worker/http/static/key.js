// The API key of this tab: asked for once unasked, and after that when its button is pressed.

import { get, useKey } from "./api.js";
import { $, write } from "./dom.js";

export class Keyring {
  constructor(changed) {
    this.changed = changed;
    this.asked = false;
    $("key-button").addEventListener("click", () => this.ask(""));
    $("key-cancel").addEventListener("click", () => $("key-dialog").close());
    $("key-dialog").addEventListener("close", () => { $("key").value = ""; });
    $("key-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.tryOut($("key").value.trim());
    });
  }

  askOnce(reason) {
    if (!this.asked) this.ask(`${reason}.`);
  }

  ask(reason) {
    this.asked = true;
    if (!$("key-dialog").open) $("key-dialog").showModal();
    this.say(reason);
  }

  async tryOut(key) {
    if (/[^\x21-\x7e]/.test(key)) return this.say("An API key has letters, digits and signs of ASCII only.");
    try {
      await get("api/ps", key);
    } catch (error) {
      this.say(`${error.message}.`);
      return $("key").select();
    }
    useKey(key);
    $("key-dialog").close();
    return this.changed();
  }

  say(text) {
    write($("key-problem"), text && text[0].toUpperCase() + text.slice(1));
    $("key-problem").hidden = !text;
  }
}
