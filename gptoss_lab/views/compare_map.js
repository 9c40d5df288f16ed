import { readComparison } from "./compare_data.js";
import { amount, count, element, percent } from "./dom.js";
import { expertMap, withAxes } from "./expert_map.js";
import { flipList } from "./flip_list.js";
import { hostView } from "./host_view.js";
import { subjectOf } from "./map_subject.js";
import { rampLegend } from "./ramp.js";
import { PANE_STATE, tokenPane } from "./token_pane.js";

/* Two runs side by side: their tokens, where both went, and the choices that differ.

   Reads CompareMap's traits; writes `pinned`, `alone`, `selection` and `cell`, and nothing else. */

export function render({ model, el }) {
  const draw = (root, set) => drawComparison(root, readComparison(model.get("data")), set);
  return hostView({ model, el }, "gl-panes gl-compare", [...PANE_STATE, "cell", "alone"], draw);
}

export default { render };

function drawComparison(root, data, set) {
  let shown = null;
  let cell = null;
  root.replaceChildren();
  const panes = drawPanes(root, data, set);
  const title = element("h4");
  const aid = element("p", { class: "gl-aid" });
  const ramp = element("div");
  const readout = element("p", { class: "gl-readout", "aria-live": "polite" });
  const maps = [...data.names, "difference"].map((name, number) => ({
    name: element("p", { class: "gl-name" }, name),
    ...expertMap({
      nLayers: data.nLayers,
      nExperts: data.nExperts,
      numbers: data.nExperts <= 8, // a third of the width
      signed: number === 2,
      onHover: (hovered) => (readout.textContent = bothWords(data, shown, hovered ?? cell)),
      onPick: (picked) => set("cell", picked),
    }),
  }));
  const list = flipList({
    quoted: data.quoted,
    names: data.names,
    onPick: ({ layer, position, left, joined }) => {
      set("selection", null);
      set("alone", null);
      set("pinned", position);
      set("cell", [layer, joined < 0 ? left : joined]);
    },
  });
  const places = maps.map(({ name, root: map }) => element("div", { class: "gl-one-map" }, name, withAxes(map)));
  const ramps = element("div", { class: "gl-ramps" }, ramp, differenceLegend(data.names));
  const pictures = element("div", { class: "gl-pictures" }, element("div", { class: "gl-three-maps" }, ...places), ramps, readout);
  root.append(element("section", { class: "gl-pane gl-whole" }, title, aid, pictures, list.root));

  return (state) => {
    cell = state.cell;
    const member = panes(state);
    const subject = state.alone === null ? subjectOf(data, state, member) : aloneSubject(data, state.alone);
    maps.forEach((map) => map.pick(cell));
    if (subject.key !== shown?.subject.key) {
      shown = { subject, sums: sumsOf(data, subject), flips: data.flips.of(subject.where) };
      title.replaceChildren(...subject.title);
      aid.textContent = mapsWords(data, shown);
      pictures.hidden = !shown.sums.some(({ counted }) => counted);
      const most = drawMaps(data, maps, shown);
      ramp.replaceChildren(rampLegend("0", `${most === 1 ? 1 : amount(most)} router weight`, "not chosen"));
      list.show(shown.flips, data.flips.sent < data.flips.total);
    }
    readout.textContent = bothWords(data, shown, cell);
  };
}

/* One strip where both runs read the same, otherwise two; returns what brings them to a state. */
function drawPanes(root, data, set) {
  const bothChances = (position) => {
    const other = data.secondProbability(position);
    return other === null ? [] : [`Probability in ${theRun(data.names[1])}: ${percent(other)}.`];
  };
  const pin = (position, alone) => {
    set("alone", alone);
    set("pinned", position);
  };
  const setOne = (name, value) => (name === "pinned" ? pin(value, null) : set(name, value));
  const one = tokenPane(root, data, setOne, { name: data.other && data.names[0], words: bothChances });
  if (!data.other) return (state) => one.follow(state);
  const setTwo = (name, value) => {
    const state = data.toFirst({ pinned: null, selection: null, [name]: value });
    if (name === "pinned") pin(state.pinned, state.pinned === null ? value : null);
    else if (name !== "selection") set(name, value);
    else if (value === null || state.selection !== null) set("selection", state.selection);
  };
  const two = tokenPane(root, data.other, setTwo, { name: data.names[1] });
  return (state) => {
    const second = data.toSecond(state);
    two.follow(state.alone === null ? second : { ...second, pinned: state.alone });
    return one.follow(state);
  };
}

// What stands in the second run alone, at this position of it.
function aloneSubject(data, alone) {
  const token = element("span", { class: "gl-quote" }, data.other.quoted[alone]);
  const where = new Uint8Array(data.nTokens);
  return { key: `alone ${alone}`, position: null, alone, title: ["Experts of the token ", token], where };
}

// What the subject's tokens gave in either run, of those alone that stand in both; a lone pinned token in its own.
function sumsOf(data, { where, position, alone = null }) {
  if (alone !== null) {
    const only = new Uint8Array(data.firstOf.length);
    only[alone] = 1;
    return [data.choices[0].sums(where), data.choices[1].sums(only)];
  }
  const paired = where.map((each, at) => (each && (data.secondOf[at] >= 0 || at === position) ? 1 : 0));
  const others = new Uint8Array(data.firstOf.length);
  paired.forEach((each, at) => each && data.secondOf[at] >= 0 && (others[data.secondOf[at]] = 1));
  return [data.choices[0].sums(paired), data.choices[1].sums(others)];
}

function drawMaps(data, maps, { subject, sums, flips }) {
  const [first, second] = sums.map(({ weights }) => weights);
  const alone = subject.position !== null;
  const most = alone ? 1 : Math.max(...first, ...second) || 1;
  const difference = first.map((weight, index) => {
    const change = sums[0].counted && sums[1].counted ? second[index] - weight : 0;
    return Math.abs(change) < (alone ? 0.005 : 0.001 * most) ? 0 : change;
  });
  maps[0].fill(first, most);
  maps[1].fill(second, most);
  maps[2].fill(difference, Math.max(...difference.map(Math.abs)) || 1);

  if (!alone || !sums[1].counted) maps.forEach((map) => map.ring(new Map()));
  else ringAlone(data, maps, first, second, flips);
  return most;
}

// Rings round what one run alone chose, dashed where rounding could have done it.
function ringAlone({ nExperts }, maps, first, second, flips) {
  const noise = new Set();
  for (const { layer, left, joined, noise: within } of flips) {
    if (within) [left, joined].forEach((expert) => noise.add(layer * nExperts + expert));
  }
  const rings = (here, there) =>
    new Map([...here.keys()].filter((index) => here[index] > 0 && !there[index]).map((index) => [index, noise.has(index)]));
  const [left, joined] = [rings(first, second), rings(second, first)];
  maps[0].ring(left);
  maps[1].ring(joined);
  maps[2].ring(new Map([...left, ...joined]));
}

function differenceLegend([first, second]) {
  const swatch = (name, words) => element("span", { class: "gl-scale" }, element("i", { class: name }), words);
  return element(
    "div",
    { class: "gl-ramp", "aria-label": "Legend" },
    swatch("gl-less gl-swatch", `less in ${theRun(second)}`),
    swatch("gl-more gl-swatch", `more in ${theRun(second)}`),
    swatch("gl-ringed gl-swatch", "of a token: chosen in one run alone"),
    swatch("gl-dashed gl-swatch", "and within rounding"),
  );
}

function mapsWords({ names }, { subject, sums }) {
  if ((subject.alone ?? null) !== null) return `This token stands in ${theRun(names[1])} alone.`;
  if (subject.position === null && !sums[0].counted) {
    return "No word on show stands in both, so that there is nothing to add up. Click a coloured token to compare its experts.";
  }
  if (subject.position === null) return `Router weight, summed over ${count(sums[0].counted, "token")} of both runs.`;
  if (!sums[1].counted) return `This token stands in ${theRun(names[0])} alone.`;
  return "In each layer the weights of either run add up to 1. Esc lets the token go.";
}

// What is called by a number goes without an article.
function theRun(name) {
  return /\d$/.test(name) ? name : `the ${name}`;
}

function bothWords(data, { subject, sums }, cell) {
  if (!cell) return "Point at a cell to read it in both runs.";
  const index = cell[0] * data.nExperts + cell[1];
  const places = subject.position === null ? 1 : 3;
  const inRun = (run) => `${amount(sums[run].weights[index], places)} in ${theRun(data.names[run])}`;
  return `Layer ${cell[0]}, expert ${cell[1]}: router weight ${inRun(0)}, ${inRun(1)}.`;
}
