import { element } from "./dom.js";

/* What the colours of the lens mean: the surer, the stronger. */
export function lensLegend(data, colour) {
  const [what, faint, full] = {
    probability: ["probability of the guess", "0 %", "100 %"],
    entropy: ["entropy of the guesses", `${data.mostEntropy.toFixed(1)} nats: anything goes`, "0: certain"],
    rank: ["tokens likelier than what came next", data.farthest.toLocaleString("en"), "none"],
  }[colour];
  return element(
    "div",
    { class: "gl-ramp", "aria-label": "Legend" },
    element("span", {}, what),
    element("span", { class: "gl-scale" }, faint, element("i"), full),
    element("span", { class: "gl-scale" }, element("span", { class: "gl-right gl-guess-sample" }, "guess"), "is what came next"),
  );
}
