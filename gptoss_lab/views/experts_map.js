import { element } from "./dom.js";
import { expertMap } from "./expert_map.js";
import { readExperts } from "./experts_data.js";
import { loadWords, pinnedWords, promotedWords, servedWords } from "./experts_words.js";
import { hostView } from "./host_view.js";
import { rampLegend } from "./ramp.js";
import { servedList } from "./served_list.js";
import { channelLegend } from "./token_strip.js";

/* Every expert on a map, and what the chosen one did: the tokens that it served, in context, and what it promotes.

   Reads `data` (experts_data.py says what is in it) and `promoted`, which may be null on a page that does not hold it.
   Reads and writes `expert` ([layer, expert]) and `pinned` (a position or null). Reads `order`. */

export function render({ model, el }) {
  const draw = (root, set) => drawExperts(root, readExperts(model.get("data")), set);
  return hostView({ model, el }, "gl-experts", ["expert", "promoted", "pinned", "order"], draw);
}

export default { render };

function drawExperts(root, data, set) {
  let state = {};
  const map = expertMap({
    nLayers: data.nLayers,
    nExperts: data.nExperts,
    onHover: (cell) => (mapReadout.textContent = loadWords(data, cell ?? state.expert)),
    onPick: (cell) => cell && set("expert", cell),
  });
  const list = servedList(data, { onPin: (position) => set("pinned", position) });
  const mapReadout = element("p", { class: "gl-readout", "aria-live": "polite" });
  const listTitle = element("h4");
  const listAid = element("p", { class: "gl-aid" });
  const pinReadout = element("p", { class: "gl-readout", "aria-live": "polite" });
  const promotes = element("section", { class: "gl-pane gl-promotes", hidden: true });

  root.replaceChildren(
    element(
      "section",
      { class: "gl-pane gl-all-experts" },
      element("h4", {}, "Every expert"),
      element("p", { class: "gl-aid" }, `Router weight, summed over ${data.counted}.`),
      element("span", { class: "gl-axis" }, "layer ↓   expert →"),
      map.root,
      rampLegend("0", `${Math.round(data.most * 10) / 10} router weight`, "idle"),
      mapReadout,
    ),
    element("section", { class: "gl-pane gl-served-pane" }, listTitle, listAid, channelLegend(data), list.root, pinReadout),
    promotes,
  );
  map.fill(data.loads, data.most);

  return (next) => {
    const { expert, order, pinned, promoted } = next;
    const relists = String(expert) !== String(state.expert) || order !== state.order;
    state = next;
    if (relists) {
      const served = data.served(expert, order);
      listTitle.textContent = `Tokens of expert ${expert[1]} of layer ${expert[0]}`;
      listAid.textContent = servedWords(served.length);
      list.show(served);
      map.pick(expert);
      mapReadout.textContent = loadWords(data, expert);
    }
    list.pin(pinned);
    pinReadout.textContent = pinned === null ? "" : pinnedWords(data, expert, pinned);
    drawPromoted(promotes, promoted, expert);
  };
}

function drawPromoted(root, promoted, expert) {
  const isHere = promoted && String(promoted.expert) === String(expert);
  root.hidden = promoted !== null && !promoted?.expert;
  if (root.hidden) return;
  const title = element("h4", {}, "What it promotes in the vocabulary");
  if (!isHere) {
    root.replaceChildren(title, element("p", { class: "gl-aid" }, "Not in this file, or still to come."));
    return;
  }
  const most = Math.max(...[...promoted.raised, ...promoted.lowered].map(([, score]) => Math.abs(score)), 1e-9);
  root.replaceChildren(
    title,
    element("p", { class: "gl-aid" }, promotedWords(promoted)),
    element("div", { class: "gl-two" }, scores("raised most", promoted.raised, most), scores("lowered most", promoted.lowered, most)),
  );
}

function scores(name, rows, most) {
  const lines = rows.map(([text, score]) => {
    const bar = element("i", { class: score < 0 ? "gl-negative" : null });
    bar.style.setProperty("--gl-share", Math.abs(score) / most);
    const sign = score < 0 ? "−" : "+";
    return element("div", { class: "gl-bar" }, element("span", { class: "gl-bar-text" }, text), bar, element("span", {}, sign + Math.abs(score).toFixed(2)));
  });
  return element("div", { class: "gl-bars" }, element("span", { class: "gl-axis" }, rows.length ? name : ""), ...lines);
}
