import { amount, element } from "./dom.js";
import { expertMap, withAxes } from "./expert_map.js";
import { hostView } from "./host_view.js";
import { subjectOf } from "./map_subject.js";
import { rampLegend } from "./ramp.js";
import { readRouting } from "./routing_data.js";
import { cellWords, mapWords, servedWords } from "./routing_words.js";
import { PANE_STATE, tokenPane } from "./token_pane.js";

/* Which experts each token went to: a strip of tokens beside a layer by expert map.

   Reads `data` (RoutingMap's docstring says what is in it) and its traits. Writes `pinned` (a position or null),
   `selection` ([start, end] or null) and `cell` ([layer, expert] or null). Every gesture sets these and nothing else;
   everything drawn follows from them. */

export function render({ model, el }) {
  const draw = (root, set) => drawRouting(root, readRouting(model.get("data")), set);
  return hostView({ model, el }, "gl-panes gl-routing", [...PANE_STATE, "cell"], draw);
}

export default { render };

/* Fills `root` and returns what brings it to a state: ({ pinned, selection, cell, ... }) => void. */
function drawRouting(root, data, set) {
  let cell = null;
  let subject = null;
  const title = element("h4");
  const aid = element("p", { class: "gl-aid" });
  const ramp = element("div");
  const readout = element("p", { class: "gl-readout", "aria-live": "polite" });
  const map = expertMap({
    nLayers: data.nLayers,
    nExperts: data.nExperts,
    onHover: (hovered) => (readout.textContent = cellWords(data, subject, hovered ?? cell)),
    onPick: (picked) => set("cell", picked),
  });
  root.replaceChildren();
  const pane = tokenPane(root, data, set);
  root.append(element("section", { class: "gl-pane gl-map-pane" }, title, aid, withAxes(map.root), ramp, readout));

  return (state) => {
    cell = state.cell;
    const member = pane.follow(state, cell && cellShade(data, cell));
    const next = subjectOf(data, state, member);
    map.pick(cell);
    if (next.key !== subject?.key) {
      subject = next;
      const { weights } = (subject.total = data.sums(subject.where));
      const most = subject.position === null ? Math.max(...weights) || 1 : 1;
      map.fill(weights, most);
      title.replaceChildren(...subject.title);
      aid.textContent = mapWords(data, subject);
      ramp.replaceChildren(rampLegend("0", `${most === 1 ? 1 : amount(most)} router weight`, "not chosen"));
    }
    readout.textContent = cellWords(data, subject, cell);
  };
}

function cellShade(data, [layer, expert]) {
  const weights = data.weightsFor([layer, expert]);
  return {
    title: `Tokens by their weight for expert ${expert} of layer ${layer}`,
    aid: (member) => servedWords(member, weights),
    legend: rampLegend("0", "1: all of the layer's weight", "not chosen"),
    weights,
    words: (position) => [
      `Weight for expert ${expert} of layer ${layer}: ${weights[position] ? weights[position].toFixed(3) : "not chosen"}.`,
    ],
  };
}
