import { element } from "./dom.js";

/* What colours mean that run from faint to full, with words at both ends; `idleWords` say what has no colour. */
export function rampLegend(faintWords, fullWords, idleWords) {
  return element(
    "div",
    { class: "gl-ramp", "aria-label": "Legend" },
    element("span", { class: "gl-scale" }, faintWords, element("i"), fullWords),
    element("span", { class: "gl-scale" }, element("i", { class: "gl-idle" }), idleWords),
  );
}
