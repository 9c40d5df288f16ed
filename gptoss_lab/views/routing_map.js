import { amount, element } from "./dom.js";
import { expertMap } from "./expert_map.js";
import { hostView } from "./host_view.js";
import { readRouting } from "./routing_data.js";
import { cellWords, mapWords, stripWords } from "./routing_words.js";
import { channelLegend, tokenStrip } from "./token_strip.js";
import { tokenTip } from "./token_tip.js";

/* Which experts each token went to: a strip of tokens beside a layer by expert map.

   Reads `data` (RoutingMap's docstring says what is in it). Reads and writes `pinned` (a position or null) and `cell`
   ([layer, expert] or null). Reads `shown`, the name of the group of tokens on show. Every gesture sets one of these
   and nothing else; everything drawn follows from them. */

export function render({ model, el }) {
  const draw = (root, set) => drawRouting(root, readRouting(model.get("data")), set);
  return hostView({ model, el }, "gl-routing", ["shown", "pinned", "cell"], draw);
}

export default { render };

/* Fills `root` and returns what brings it to a state: ({ shown, pinned, cell }) => void. */
function drawRouting(root, data, set) {
  let state = { group: null, pinned: null, cell: null };
  const tip = tokenTip(root, data);
  const strip = tokenStrip(data, { onHover: tip.show, onPin: (position) => set("pinned", position) });
  const map = expertMap({
    nLayers: data.nLayers,
    nExperts: data.nExperts,
    onHover: (cell) => (readout.textContent = cellWords(data, state, cell ?? state.cell)),
    onPick: (cell) => set("cell", cell),
  });
  const stripTitle = element("h4");
  const stripAid = element("p", { class: "gl-aid" });
  const mapTitle = element("h4");
  const mapAid = element("p", { class: "gl-aid" });
  const most = element("span");
  const readout = element("p", { class: "gl-readout", "aria-live": "polite" });

  root.replaceChildren(
    element("section", { class: "gl-pane gl-strip-pane" }, stripTitle, stripAid, channelLegend(data), strip.root),
    element("section", { class: "gl-pane gl-map-pane" }, mapTitle, mapAid, axes(map.root), ramp(most), readout),
    tip.root,
  );

  return ({ shown, pinned, cell }) => {
    const group = data.groupCalled(shown);
    const regrouped = group !== state.group;
    const repicked = String(cell) !== String(state.cell);
    state = { group, pinned, cell };
    if (regrouped) strip.reveal(data.member(group));
    if (repicked) strip.weigh(cell && data.weightsFor(cell));
    strip.pin(pinned);
    map.pick(cell);
    if (pinned === null) map.fill(data.sums(group), data.most(group) || 1);
    else map.fill(data.route(pinned), 1);

    const words = stripWords(data, state);
    stripTitle.textContent = words.title;
    stripAid.textContent = words.aid;
    if (pinned === null) mapTitle.textContent = `Experts of ${data.groups[group].label}`;
    else mapTitle.replaceChildren("Experts of the token ", element("span", { class: "gl-quote" }, data.quoted[pinned]));
    mapAid.textContent = mapWords(data, state);
    most.textContent = pinned === null ? amount(data.most(group)) : "1";
    readout.textContent = cellWords(data, state, cell);
  };
}

function axes(map) {
  return element("div", { class: "gl-axes" }, element("span", { class: "gl-axis" }, "layer ↓   expert →"), map);
}

function ramp(most) {
  return element(
    "div",
    { class: "gl-ramp" },
    element("i", { class: "gl-idle" }),
    element("span", {}, "not chosen"),
    element("span", { class: "gl-scale" }, "0 ", element("i"), most),
    element("span", {}, "router weight"),
  );
}
