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
    return new DataView(Uint8Array.from(atob(value.base64), (letter) => letter.charCodeAt(0)).buffer);
  });
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
