import { element } from "./dom.js";
import { rowWindow } from "./row_window.js";

/* Tokens in their context, a row each, with a weight before them; only the rows in view are drawn.

   servedList(data, { onPin(position | null) }) returns { root, show(rows), pin(position | null) }: rows is
   [[position, weight], ...]. Arrow keys walk from row to row. */

const ROW_HEIGHT = 26;
const CONTEXT = 14; // tokens before and after

export function servedList(data, { onPin }) {
  const root = element("div", {
    class: "gl-served",
    tabindex: 0,
    role: "listbox",
    "aria-label": "Tokens that the expert served",
    "data-lm-suppress-shortcuts": "true",
  });
  const rows = rowWindow(root, { height: ROW_HEIGHT, drawRow });
  root.append(rows.body);
  let served = [];
  let pinned = null;

  function drawRow(number) {
    const [position, weight] = served[number];
    const block = data.blocks.find((each) => position < each.end);
    const bar = element("i");
    bar.style.setProperty("--gl-share", weight.toFixed(4));
    const token = element("b", { class: "gl-weight" }, data.shown[position]);
    token.style.setProperty("--gl-weight", weight.toFixed(4));
    const made = element(
      "div",
      { class: "gl-served-row", role: "option", "data-position": position, "data-kind": block.kind, title: block.title },
      element("span", { class: "gl-share-bar" }, bar, element("span", {}, weight.toFixed(3))),
      element("span", { class: "gl-before" }, element("span", {}, context(position - CONTEXT, position))),
      token,
      element("span", { class: "gl-after" }, context(position + 1, position + 1 + CONTEXT)),
    );
    mark(made, position);
    return made;
  }

  const context = (start, end) => data.shown.slice(Math.max(0, start), end).join("");

  function mark(row, position) {
    row.classList.toggle("gl-pinned", position === pinned);
    row.setAttribute("aria-selected", String(position === pinned));
  }

  root.addEventListener("click", (event) => {
    const row = event.target.closest?.(".gl-served-row");
    if (!row) return;
    root.focus({ preventScroll: true });
    const position = Number(row.dataset.position);
    onPin(position === pinned ? null : position);
  });
  root.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const target = step(event.key);
    if (target === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    onPin(target);
  });

  function step(key) {
    if (key === "Escape") return null;
    const moves = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10, Home: -Infinity, End: Infinity };
    if (!(key in moves) || !served.length) return undefined;
    const from = numberOf(pinned);
    if (from < 0) return served[key === "End" ? served.length - 1 : 0][0];
    return served[Math.min(Math.max(from + moves[key], 0), served.length - 1)][0];
  }

  const numberOf = (position) => served.findIndex(([each]) => each === position);

  function show(next) {
    served = next;
    root.scrollTop = 0;
    rows.show(served.length);
  }

  function pin(position) {
    const before = rows.row(numberOf(pinned));
    const last = pinned;
    pinned = position;
    if (before) mark(before, last);
    const number = position === null ? -1 : numberOf(position);
    if (number < 0) return;
    rows.reveal(number, 0);
    mark(rows.row(number), position);
  }

  return { root, show, pin };
}
