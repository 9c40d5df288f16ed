import { element, percent } from "./dom.js";
import { paintWeights } from "./weight_colours.js";

/* Every head, small: a row a layer, first layer on top, a column a head.

   headGrid(data, { onHover([layer, head] | null), onPick([layer, head]) }) returns { root, paint(colours),
   pick([layer, head]) }. Under each picture a bar says how much of the attention goes to the sink. */

const FEW = 16;
const MARGIN = 6; // pixels around the chosen head
let grids = 0;

export function headGrid(data, { onHover, onPick }) {
  const prefix = `gl-heads-${grids++}`;
  const names = data.layers.flatMap((layer) => data.heads.map((head) => [layer, head]));
  const cells = names.map((name, index) => drawHead(data, name, `${prefix}-${index}`));
  const width = data.heads.length;
  const root = element(
    "div",
    { class: "gl-heads", role: "grid", tabindex: 0, "aria-label": "Heads by layer", "data-lm-suppress-shortcuts": "true" },
    ...data.layers.map((layer, row) =>
      element(
        "div",
        { class: "gl-head-row", role: "row" },
        element(
          "div",
          { class: "gl-layer", role: "rowheader" },
          element("b", {}, `layer ${layer}`),
          element("span", { class: data.reaches[row] === "sees all" ? null : "gl-window" }, data.reaches[row]),
        ),
        ...cells.slice(row * width, (row + 1) * width).map((cell) => cell.root),
      ),
    ),
  );
  root.classList.toggle("gl-few", width <= FEW);
  root.style.setProperty("--gl-columns", width);
  root.style.setProperty("--gl-thumbnail", `${Math.min(96, Math.max(44, 440 / data.layers.length - 28))}px`);
  const indexOf = new Map(cells.map((cell, index) => [cell.root, index]));
  const at = (event) => indexOf.get(event.target.closest?.(".gl-small-head")) ?? null;
  let picked = 0;

  root.addEventListener("pointerover", (event) => onHover(at(event) === null ? null : names[at(event)]));
  root.addEventListener("pointerleave", () => onHover(null));
  root.addEventListener("click", (event) => {
    const index = at(event);
    if (index === null) return;
    root.focus({ preventScroll: true });
    onPick(names[index]);
  });
  root.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: width, ArrowUp: -width }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    const leavesRow = Math.abs(step) === 1 && Math.floor((picked + step) / width) !== Math.floor(picked / width);
    const next = picked + step;
    if (!leavesRow && next >= 0 && next < names.length) onPick(names[next]);
  });

  function pick([layer, head]) {
    cells[picked].root.classList.remove("gl-picked");
    cells[picked].root.removeAttribute("aria-selected");
    picked = names.findIndex((name) => name[0] === layer && name[1] === head);
    cells[picked].root.classList.add("gl-picked");
    cells[picked].root.setAttribute("aria-selected", "true");
    root.setAttribute("aria-activedescendant", cells[picked].root.id);
    bringIntoView(root, cells[picked].root);
  }

  function paint(colours) {
    cells.forEach(({ canvas }, index) => paintWeights(canvas, data.thumbnail(names[index]), colours));
  }

  return { root, paint, pick };
}

// Scrolls the grid alone, clear of the layers' names: scrollIntoView would move the notebook too.
function bringIntoView(grid, cell) {
  const [outer, inner] = [grid.getBoundingClientRect(), cell.getBoundingClientRect()];
  const names = cell.parentElement.firstElementChild.offsetWidth;
  const left = inner.left - outer.left - names - MARGIN;
  const right = inner.right - outer.left - grid.clientWidth + MARGIN;
  const top = inner.top - outer.top - MARGIN;
  const bottom = inner.bottom - outer.top - grid.clientHeight + MARGIN;
  grid.scrollLeft += left < 0 ? left : Math.max(0, right);
  grid.scrollTop += top < 0 ? top : Math.max(0, bottom);
}

function drawHead(data, name, id) {
  const canvas = element("canvas", { width: data.side, height: data.side, "aria-hidden": "true" });
  const bar = element("i", { class: "gl-sink" });
  bar.style.setProperty("--gl-share", data.sinkMean(name));
  const root = element(
    "div",
    {
      class: "gl-small-head",
      role: "gridcell",
      id,
      "aria-label": `layer ${name[0]}, head ${name[1]}, ${percent(data.sinkMean(name))} to the sink`,
    },
    canvas,
    bar,
    element("span", { class: "gl-name" }, String(name[1])),
  );
  return { root, canvas };
}
