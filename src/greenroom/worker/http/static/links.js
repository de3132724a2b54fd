// The version of the worker, and links that a browser cannot follow by itself where a key is needed.

import { get, hasKey, open } from "./api.js";
import { $, write } from "./dom.js";

export class Links {
  constructor(refused) {
    for (const link of document.querySelectorAll("footer a")) {
      link.addEventListener("click", (event) => {
        if (!hasKey()) return;
        event.preventDefault();
        open(link.getAttribute("href")).catch(refused);
      });
    }
  }

  async tellVersion() {
    try {
      write($("version"), `Greenroom ${(await get("api/version")).version}`);
    } catch {
      write($("version"), "");
    }
  }
}
