// Making elements, and writing sizes and times as people read them.

export const $ = (id) => document.getElementById(id);

export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "onclick") made.addEventListener("click", value);
    else if (value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

// Makes a shape, or the drawing around shapes.
export function shape(tag, attributes = {}, text = undefined) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

// Writes only what is new, so that screen readers do not read the old again.
export function write(target, text) {
  if (target.textContent !== text) target.textContent = text;
}

// Says something to screen readers only.
export function announce(text) {
  write($("announced"), text);
}

// A button that cannot be used keeps the keyboard's focus, unlike one that is `disabled`.
export function usable(button, can) {
  if (can) button.removeAttribute("aria-disabled");
  else button.setAttribute("aria-disabled", "true");
}

export const isUsable = (button) => button.getAttribute("aria-disabled") !== "true";

export function size(bytes) {
  const megabytes = bytes / 1048576;
  if (megabytes >= 1024) return `${(megabytes / 1024).toFixed(1)} GB`;
  if (bytes && megabytes < 0.1) return `${Math.ceil(bytes / 1024)} kB`;
  return `${megabytes.toFixed(bytes && megabytes < 10 ? 1 : 0)} MB`;
}

export function share(part, whole) {
  const percent = (100 * part) / whole;
  if (!part) return "0\u00a0%";
  return percent < 1 ? "under 1\u00a0%" : `${Math.round(percent)}\u00a0%`;
}

export const counted = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;

export function duration(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return `${minutes} min ${String(whole % 60).padStart(2, "0")} s`;
  return `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, "0")} min`;
}

export function took(seconds) {
  return seconds < 1 ? `${Math.round(seconds * 1000)} ms` : `${seconds.toFixed(2)} s`;
}

export function clock(milliseconds) {
  return new Date(milliseconds).toLocaleTimeString([], { hour12: false });
}
