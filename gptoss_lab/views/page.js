import { element } from "./dom.js";

/* An exported page as the host of a view: the part of a notebook's widget model that our views use. */

export function pageModel(state) {
  const listeners = new Map();
  return {
    get: (name) => state[name],
    set: (name, value) => {
      if (JSON.stringify(state[name]) === JSON.stringify(value)) return;
      state[name] = value;
      (listeners.get(`change:${name}`) ?? []).forEach((act) => act());
    },
    save_changes: () => {},
    on: (event, act) => listeners.set(event, [...(listeners.get(event) ?? []), act]),
    off: (event, act) => listeners.set(event, (listeners.get(event) ?? []).filter((each) => each !== act)),
  };
}

/* The page's state, with its base64 as bytes again. */
export function pageState() {
  return JSON.parse(document.getElementById("state").textContent, (_, value) => {
    if (typeof value?.base64 !== "string") return value;
    return new DataView(bytesOf(value.base64).buffer);
  });
}

// Written out, since a call for every letter takes a second for some megabytes.
function bytesOf(base64) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(base64);
  const letters = atob(base64);
  const bytes = new Uint8Array(letters.length);
  for (let place = 0; place < letters.length; place++) bytes[place] = letters.charCodeAt(place);
  return bytes;
}

/* Runs the page's library once the browser has painted what is there: it takes longer to read than all the rest. */
export async function loadLibrary() {
  await new Promise((painted) => requestAnimationFrame(() => setTimeout(painted)));
  const script = document.createElement("script");
  script.textContent = document.getElementById("library").textContent;
  document.head.append(script);
}

/* A view's title and reading aid, as heading.py writes them in a notebook. */
export function pageHeading([title, aid]) {
  const words = [element("h3", {}, title), element("p", { class: "gl-aid" }, aid)];
  return element("header", { class: "gptoss gl-heading" }, ...words);
}
