import { amount, element } from "./dom.js";

/* A layer by expert map: a row a layer, first layer on top, a column an expert.

   expertMap({ nLayers, nExperts, numbers, signed, onHover([layer, expert] | null), onPick([layer, expert] | null) }) has
   { root, fill(values, most), ring(cells), pick([layer, expert] | null) }: values is [layer, expert], flat, and `most`
   the value that gets the full colour; `numbers` says whether cells have room for theirs; `signed` values, as
   differences are, have a colour for each sign. Rings are drawn round the cells of a Map from numbers in `values` to
   whether the ring is but dashed. */

const ROOMY = 16;
let maps = 0;

export function expertMap({ nLayers, nExperts, numbers = nExperts <= ROOMY, signed = false, onHover, onPick }) {
  const name = `gl-map-${maps++}`;
  const cells = Array.from({ length: nLayers * nExperts }, (_, index) =>
    element("div", { class: "gl-cell", role: "gridcell", id: `${name}-${index}` }),
  );
  const root = element(
    "div",
    {
      class: "gl-map",
      role: "grid",
      tabindex: 0,
      "aria-label": "Router weight by layer and expert",
      "data-lm-suppress-shortcuts": "true",
    },
    columnNumbers(nExperts),
    ...Array.from({ length: nLayers }, (_, layer) =>
      element(
        "div",
        { class: "gl-row", role: "row" },
        element("span", { class: "gl-number", role: "rowheader" }, String(layer)),
        ...cells.slice(layer * nExperts, (layer + 1) * nExperts),
      ),
    ),
  );
  root.style.setProperty("--gl-experts", nExperts);
  root.classList.toggle("gl-roomy", nExperts <= ROOMY);
  const indexOf = new Map(cells.map((cell, index) => [cell, index]));
  const at = (event) => {
    const index = indexOf.get(event.target);
    return index === undefined ? null : [Math.floor(index / nExperts), index % nExperts];
  };
  const values = new Float64Array(cells.length);
  let most = 1;
  let picked = null;

  root.addEventListener("pointerover", (event) => onHover(at(event)));
  root.addEventListener("pointerleave", () => onHover(null));
  root.addEventListener("click", (event) => {
    const cell = at(event);
    if (cell === null) return;
    root.focus({ preventScroll: true });
    onPick(same(cell, picked) ? null : cell);
  });
  root.addEventListener("keydown", (event) => {
    const target = step(event.key);
    if (target === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    onPick(target);
  });

  function step(key) {
    if (key === "Escape") return null;
    const moves = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] };
    if (!(key in moves)) return undefined;
    if (picked === null) return [0, 0];
    return [clamp(picked[0] + moves[key][0], nLayers), clamp(picked[1] + moves[key][1], nExperts)];
  }

  // Most cells stay as they were when another token is pinned, and setting a style is what costs.
  function fill(next, nextMost) {
    cells.forEach((cell, index) => {
      const value = next[index];
      if (value === values[index] && nextMost === most) return;
      cell.classList.toggle("gl-weight", !signed && value > 0);
      cell.classList.toggle("gl-more", signed && value > 0);
      cell.classList.toggle("gl-less", signed && value < 0);
      cell.style.setProperty("--gl-weight", (Math.abs(value) / nextMost).toFixed(4));
      if (!numbers) return;
      const words = value ? short(Math.abs(value), nextMost) : "";
      cell.textContent = sign(value, words) + words;
    });
    values.set(next);
    most = nextMost;
  }

  function ring(rings) {
    cells.forEach((cell, index) => {
      cell.classList.toggle("gl-ringed", rings.has(index));
      cell.classList.toggle("gl-dashed", rings.get(index) === true);
    });
  }

  function sign(value, words) {
    if (!signed || !/[1-9]/.test(words)) return "";
    return value < 0 ? "−" : "+";
  }

  function pick(cell) {
    if (picked) cells[picked[0] * nExperts + picked[1]].classList.remove("gl-picked");
    picked = cell;
    root.removeAttribute("aria-activedescendant");
    if (!cell) return;
    const chosen = cells[cell[0] * nExperts + cell[1]];
    chosen.classList.add("gl-picked");
    root.setAttribute("aria-activedescendant", chosen.id);
  }

  return { root, fill, ring, pick };
}

/* A map with the names of its axes. */
export function withAxes(map) {
  return element("div", { class: "gl-axes" }, element("span", { class: "gl-axis" }, "layer ↓   expert →"), map);
}

// Room for about four characters: hundredths of one token's weight, otherwise as many places as fit.
function short(value, most) {
  return most <= 1 ? value.toFixed(2) : amount(value);
}

function columnNumbers(nExperts) {
  const every = nExperts <= ROOMY ? 1 : nExperts <= 64 ? 4 : 8;
  const numbers = Array.from({ length: nExperts }, (_, expert) =>
    element("span", { class: "gl-number" }, expert % every ? "" : String(expert)),
  );
  const corner = element("span", { class: "gl-number" });
  return element("div", { class: "gl-row gl-head", "aria-hidden": "true" }, corner, ...numbers);
}

function clamp(value, size) {
  return Math.min(Math.max(value, 0), size - 1);
}

function same(cell, other) {
  return other !== null && cell[0] === other[0] && cell[1] === other[1];
}
