import { count, element } from "./dom.js";

/* The choices that differ, as a table: { root, show(flips, isCut) }, `flips` as `of` gives them (see compare_data.js), and
   `isCut` says that there are more. A click on a row, or Enter on its layer, calls onPick(flip). */

const MOST = 200;

export function flipList({ quoted, names, onPick }) {
  const note = element("p", { class: "gl-aid" });
  const body = element("tbody");
  const heads = ["token", "layer", "expert", `margin, ${names[0]}`, `margin, ${names[1]}`, ""];
  const head = element("tr", {}, ...heads.map((name) => element("th", { scope: "col" }, name)));
  const table = element("table", { class: "gl-flips" }, element("thead", {}, head), body);
  const place = element("div", { class: "gl-flips-place", tabindex: 0, "aria-label": "Choices that differ" }, table);

  function show(flips, isCut) {
    const noise = flips.filter((flip) => flip.noise).length;
    const kept = flips.slice(0, MOST);
    const rest = flips.length > MOST ? ` Listed: the ${MOST} with the largest margins.` : "";
    const exchanges = `${count(flips.length, "exchange")} of one expert for another`;
    note.textContent = `${isCut ? "At least " : ""}${exchanges}${noiseWords(noise)}.${rest}`;
    body.replaceChildren(...kept.map(drawFlip));
    place.hidden = !kept.length;
  }

  function drawFlip(flip) {
    const token = element("span", { class: "gl-quote" }, quoted[flip.position]);
    const pick = element("button", { class: "gl-link" }, String(flip.layer));
    const cells = [token, pick, exchange(flip), ...flip.margins.map(marginWords), flip.noise ? "within rounding" : ""];
    const row = element("tr", { class: flip.noise ? "gl-noise" : null }, ...cells.map((each) => element("td", {}, each)));
    row.addEventListener("click", () => onPick(flip));
    return row;
  }

  return { root: element("div", {}, note, place), show };
}

function noiseWords(noise) {
  return noise ? `, ${noise} of them within rounding: two correct programs may choose either` : "";
}

function exchange({ left, joined }) {
  const name = (expert) => (expert < 0 ? "none" : String(expert));
  return `${name(left)} → ${name(joined)}`;
}

function marginWords(margin) {
  if (Number.isNaN(margin)) return "";
  if (!Number.isFinite(margin)) return "∞";
  return margin !== 0 && Math.abs(margin) < 0.001 ? margin.toExponential(1) : margin.toFixed(3);
}
