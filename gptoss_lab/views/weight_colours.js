import { element } from "./dom.js";

/* The theme's colours of weights, for canvases. A byte stands for 255 times the root of a weight, 0 for none at all. */

/* The 256 colours as a canvas holds them, in the theme in which `view` stands. */
export function weightColours(view) {
  const probe = element("span", { hidden: true });
  view.append(probe);
  const pen = element("canvas", { width: 256, height: 1 }).getContext("2d");
  for (let byte = 0; byte < 256; byte++) {
    probe.style.color = byte
      ? `color-mix(in oklch, var(--gl-high) ${(100 * byte) / 255}%, var(--gl-low))`
      : "color-mix(in srgb, var(--gl-ink) 6%, transparent)";
    pen.fillStyle = getComputedStyle(probe).color;
    pen.fillRect(byte, 0, 1, 1);
  }
  probe.remove();
  return new Uint32Array(pen.getImageData(0, 0, 256, 1).data.buffer);
}

/* Paints bytes, row by row, onto a canvas of as many pixels. */
export function paintWeights(canvas, bytes, colours) {
  const image = new ImageData(canvas.width, canvas.height);
  const pixels = new Uint32Array(image.data.buffer);
  bytes.forEach((byte, place) => (pixels[place] = colours[byte]));
  canvas.getContext("2d").putImageData(image, 0, 0);
}

/* Calls act() whenever the theme changes, for as long as `view` is on the page. */
export function onThemeChange(view, act) {
  const observer = new MutationObserver(() => (view.isConnected ? act() : observer.disconnect()));
  observer.observe(document.body, { attributeFilter: ["data-jp-theme-light", "data-vscode-theme-kind"] });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => view.isConnected && act());
}

/* What the colours mean: `none` says what byte 0 stands for, `what` what is measured. */
export function weightLegend(none, what) {
  const marks = [0, 1, 4, 9, 16].map((part) => element("span", {}, `${Math.round((100 * part) / 16)} %`));
  return element(
    "div",
    { class: "gl-ramp gl-roots" },
    element("span", {}, what),
    element("span", { class: "gl-scale" }, element("i"), element("span", { class: "gl-marks" }, ...marks)),
    element("span", { class: "gl-scale" }, element("i", { class: "gl-idle" }), none),
  );
}
