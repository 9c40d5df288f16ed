import { element } from "./dom.js";
import { guessPanel } from "./guess_panel.js";
import { hostView } from "./host_view.js";
import { readLens } from "./lens_data.js";
import { lensLegend } from "./lens_words.js";
import { rowWindow } from "./row_window.js";
import { channelLegend } from "./token_strip.js";

/* What the model would say next: a row a token, a column a point of its layers, and last what came.

   Reads `data` (lens_data.py says what is in it). Reads and writes `pinned` (a position or null) and `point` (a number or
   null). Reads `colour` and `detail`. */

export function render({ model, el }) {
  const draw = (root, set) => drawLens(root, readLens(model.get("data")), set);
  return hostView({ model, el }, "gl-lens", ["pinned", "point", "colour", "detail"], draw);
}

export default { render };

const ROW = 24;
const HEAD = 26;
const PAGE = 15;

function drawLens(root, data, set) {
  let state = {};
  let points = [];
  const panel = guessPanel(data);
  const head = element("div", { class: "gl-lens-row gl-lens-head", role: "row" });
  const scroller = element("div", {
    class: "gl-lens-grid",
    role: "grid",
    tabindex: 0,
    "aria-label": "Guesses by token and point",
    "data-lm-suppress-shortcuts": "true",
  });
  const rows = rowWindow(scroller, { height: ROW, drawRow });
  const legend = element("div");
  scroller.append(head, rows.body);
  root.replaceChildren(
    element("section", { class: "gl-pane gl-lens-pane" }, legend, channelLegend(data), scroller),
    panel.root,
  );

  function drawHead() {
    head.replaceChildren(
      columnHead("has read", "gl-read"),
      ...points.map((point) => columnHead(data.points[point], "gl-guess", data.places[point])),
      columnHead("came next", "gl-next"),
    );
  }

  function drawRow(position) {
    const block = data.blocks.find((each) => position < each.end);
    const strength = data.strengths[state.colour];
    const made = element(
      "div",
      { class: "gl-lens-row", role: "row", "data-position": position, "data-kind": block.kind },
      element("span", { class: "gl-read", role: "rowheader" }, data.quoted[position]),
      ...points.map((point) => {
        const cell = element("span", { class: "gl-guess", role: "gridcell", "data-point": point });
        const weight = strength(position, point);
        cell.classList.toggle("gl-weight", weight > 0);
        cell.classList.toggle("gl-right", data.isRight(position, point));
        cell.style.setProperty("--gl-weight", weight.toFixed(4));
        cell.textContent = data.guess(position, point).text;
        return cell;
      }),
      element("span", { class: "gl-next" }, data.next[position]),
    );
    made.classList.toggle("gl-reply-row", position === data.nPrompt - 1);
    mark(made, position);
    return made;
  }

  function mark(row, position) {
    row.classList.toggle("gl-pinned", position === state.pinned);
    for (const cell of row.querySelectorAll(".gl-picked")) cell.classList.remove("gl-picked");
    if (position !== state.pinned || state.point === null) return;
    row.querySelector(`[data-point="${state.point}"]`)?.classList.add("gl-picked");
  }

  const at = (event) => {
    const row = event.target.closest?.("[data-position]");
    if (!row) return null;
    const cell = event.target.closest("[data-point]");
    return [Number(row.dataset.position), cell ? Number(cell.dataset.point) : points.at(-1)];
  };
  scroller.addEventListener("pointerover", (event) => {
    const place = at(event);
    if (place) panel.show(...place);
    else showChosen();
  });
  scroller.addEventListener("pointerleave", showChosen);
  scroller.addEventListener("click", (event) => {
    const place = at(event);
    if (!place) return;
    scroller.focus({ preventScroll: true });
    const isChosen = place[0] === state.pinned && place[1] === state.point;
    choose(...(isChosen ? [null, null] : place));
  });
  scroller.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const target = step(event.key);
    if (target === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    choose(...target);
  });

  function choose(position, point) {
    set("point", point);
    set("pinned", position);
  }

  function step(key) {
    if (key === "Escape") return [null, null];
    const down = { ArrowDown: 1, ArrowUp: -1, PageDown: PAGE, PageUp: -PAGE, Home: -Infinity, End: Infinity }[key] ?? 0;
    const right = { ArrowRight: 1, ArrowLeft: -1 }[key] ?? 0;
    if (!down && !right) return undefined;
    if (state.pinned === null) return [Math.max(0, data.nPrompt - 1), points.at(-1)];
    const column = Math.max(0, points.indexOf(state.point ?? points.at(-1)));
    return [within(state.pinned + down, data.nTokens), points[within(column + right, points.length)]];
  }

  function showChosen() {
    if (state.pinned === null) panel.show(null);
    else panel.show(state.pinned, state.point ?? points.at(-1));
  }

  function revealChosen() {
    if (state.pinned === null) return;
    rows.reveal(state.pinned, HEAD);
    const cell = rows.row(state.pinned)?.querySelector(".gl-picked");
    if (cell) showColumn(scroller, cell);
  }

  return (next) => {
    const isFirst = state.colour === undefined;
    const redraws = next.colour !== state.colour || next.detail !== state.detail;
    const moves = next.pinned !== state.pinned || next.point !== state.point;
    const before = state.pinned;
    state = next;
    if (redraws) {
      points = data.shownPoints(next.detail);
      scroller.style.setProperty("--gl-points", points.length);
      legend.replaceChildren(lensLegend(data, next.colour));
      drawHead();
      rows.show(data.nTokens);
    }
    for (const position of [before, next.pinned]) {
      const row = position === null ? undefined : rows.row(position);
      if (row) mark(row, position);
    }
    if (moves) revealChosen();
    if (isFirst) onceInPlace(scroller, startAtReply);
    showChosen();
  };

  function startAtReply() {
    if (state.pinned === null) scroller.scrollTop = Math.max(0, data.nPrompt - 3) * ROW;
    else revealChosen();
  }
}

function columnHead(words, name, title) {
  return element("span", { class: name, role: "columnheader", title }, words);
}

// Scrolls sideways until a cell is clear of the columns that stick to both sides.
function showColumn(scroller, cell) {
  const [outer, inner] = [scroller.getBoundingClientRect(), cell.getBoundingClientRect()];
  const [left, right] = [...cell.parentElement.children].filter((each) => !each.dataset.point);
  const first = outer.left + left.offsetWidth;
  const last = outer.left + scroller.clientWidth - right.offsetWidth;
  if (inner.left < first) scroller.scrollLeft -= first - inner.left;
  else if (inner.right > last) scroller.scrollLeft += inner.right - last;
}

// A widget may draw before it has a place on the page, and nothing scrolls without one.
function onceInPlace(view, act) {
  const observer = new ResizeObserver(() => {
    if (!view.clientHeight) return;
    observer.disconnect();
    act();
  });
  observer.observe(view);
}

function within(value, size) {
  return Math.min(Math.max(value, 0), size - 1);
}
