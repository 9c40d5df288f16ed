import { element } from "./dom.js";
import { paintWeights } from "./weight_colours.js";

/* One head, large: a row a token that reads, a column a token that is read, and before them a column for the sink.

   patternPicture(data, { onHover([first, last, firstKey, lastKey] | null), onPick(position) }) returns { root,
   show(head | null, colours), pin(position | null) }. Where there are more tokens than pixels, a pixel stands for a
   square of them: hovering then gives the first and last of each. A key of -1 is the sink. */

export function patternPicture(data, { onHover, onPick }) {
  const picture = element("canvas", { class: "gl-pattern" });
  const sink = element("canvas", { class: "gl-sink-column", width: 1 });
  const row = element("i", { class: "gl-cross gl-cross-row", hidden: true });
  const column = element("i", { class: "gl-cross gl-cross-column", hidden: true });
  const field = element("div", { class: "gl-field" }, picture, row, column);
  const root = element(
    "div",
    { class: "gl-large-head" },
    element("span", { class: "gl-axis gl-corner" }, "sink"),
    element("span", { class: "gl-axis gl-across" }, "which token is read →"),
    messages(data, "gl-band-across", "left", "width"),
    element("span", { class: "gl-axis gl-down" }, "which token reads →"),
    element("div", { class: "gl-sink-place" }, sink),
    messages(data, "gl-band-down", "top", "height"),
    field,
  );
  let side = 1;
  const range = (share) => {
    const pixel = Math.min(side - 1, Math.max(0, Math.floor(share * side)));
    const start = (each) => Math.floor((each * data.nTokens) / side);
    return [start(pixel), start(pixel + 1) - 1];
  };
  const place = (event) => {
    const box = field.getBoundingClientRect();
    const rows = range((event.clientY - box.top) / box.height);
    return event.target === sink ? [...rows, -1, -1] : [...rows, ...range((event.clientX - box.left) / box.width)];
  };
  for (const each of [picture, sink]) {
    each.addEventListener("pointermove", (event) => onHover(place(event)));
    each.addEventListener("pointerleave", () => onHover(null));
    each.addEventListener("click", (event) => onPick(place(event)[0]));
  }

  function show(head, colours) {
    root.classList.toggle("gl-waiting", head === null);
    if (head === null) return;
    side = picture.width = picture.height = head.side;
    paintWeights(picture, head.picture, colours);
    sink.height = data.nTokens;
    paintWeights(sink, head.sinks.map((share) => Math.ceil(255 * Math.sqrt(share / 65535))), colours);
  }

  function pin(position) {
    row.hidden = column.hidden = position === null;
    if (position === null) return;
    for (const line of [row, column]) line.style.setProperty("--gl-at", (position + 0.5) / data.nTokens);
  }

  return { root, show, pin };
}

// The messages beside an axis, in their channels' colours.
function messages(data, name, start, extent) {
  const parts = data.blocks.map((block) => {
    const part = element("i", { "data-kind": block.kind });
    part.style[start] = `${(100 * block.start) / data.nTokens}%`;
    part.style[extent] = `${(100 * (block.end - block.start)) / data.nTokens}%`;
    return part;
  });
  return element("div", { class: `gl-band ${name}`, "aria-hidden": "true" }, ...parts);
}
