// What was refused, said for a while at the foot of the page.

import { $, write } from "./dom.js";
import { NOTICE_MS } from "./times.js";

let hiding = 0;

export function notice(text) {
  clearTimeout(hiding);
  write($("trouble"), text);
  $("trouble").hidden = false;
  hiding = setTimeout(hide, NOTICE_MS);
}

function hide() {
  $("trouble").hidden = true;
  $("trouble").textContent = "";
}

addEventListener("keydown", (event) => {
  if (event.key === "Escape") hide();
});
