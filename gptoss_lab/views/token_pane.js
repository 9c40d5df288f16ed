import { element } from "./dom.js";
import { rampLegend } from "./ramp.js";
import { channelLegend, tokenStrip } from "./token_strip.js";
import { tokenTip } from "./token_tip.js";

/* The token strip with its title, what its colours mean, and its tip: what the views of a trace have in common.

   tokenPane(root, data, set, { name, words }) draws a conversation (see strip_data.js) at the end of `root`; `name` is
   what it is called, `words(position)` gives further lines for a token's tip; neither is needed. It returns { strip, follow }:
   follow(state, shade) brings it to a state { pinned, selection, part, role, channel, colour, layer }, and returns the
   positions on show, an array of 0 and 1. `shade`, where given, colours instead of `colour`: { title, aid(member),
   legend, weights, words(position) }. */

export const PANE_STATE = ["pinned", "selection", "part", "role", "channel", "colour", "layer"];

export function tokenPane(root, data, set, { name = null, words = () => [] } = {}) {
  const title = element("h4");
  const aid = element("p", { class: "gl-aid" });
  const legend = element("div");
  const tip = tokenTip(root, data);
  let current = {};
  let shaded = "";
  let shade = null;
  let member = null;
  const strip = tokenStrip(data, {
    onHover: (position, token) => tip.show(position, token, position === null ? [] : [...words(position), ...shade.words(position)]),
    onPin: (position) => set("pinned", position),
    onSelect: (range) => set("selection", range),
  });
  const called = name === null ? [] : [element("p", { class: "gl-name" }, name)];
  const section = element("section", { class: "gl-pane gl-strip-pane" }, ...called, title, aid, legend, strip.root);
  root.append(section, tip.root);

  function follow(state, given = null) {
    const filter = ({ part, role, channel }) => JSON.stringify([part, role, channel]);
    if (member === null || filter(state) !== filter(current)) strip.reveal((member = data.member(state)));
    const key = given?.title ?? JSON.stringify([state.colour, state.layer]);
    if (key !== shaded) {
      shade = given ?? shadeOf(data, state);
      title.textContent = shade.title;
      legend.replaceChildren(shade.legend);
      strip.weigh(shade.weights);
    }
    aid.textContent = shade.aid(member);
    current = state;
    shaded = key;
    strip.pin(state.pinned);
    strip.select(state.selection);
    return member;
  }

  return { strip, follow };
}

function shadeOf(data, { colour, layer }) {
  const quantity = data.quantities.find(({ name }) => name === colour);
  if (!quantity) {
    return {
      title: "Tokens by channel",
      aid: () => "Point at a token to read it. Click it, or walk with the arrow keys, to pin it; drag to select several.",
      legend: channelLegend(data),
      weights: null,
      words: () => [],
    };
  }
  const where = !quantity.layered ? "" : layer === null ? `, ${quantity.together}` : `, layer ${layer}`;
  return {
    title: `Tokens by ${quantity.title}${where}`,
    aid: () => quantity.aid,
    legend: rampLegend(quantity.faint_words, quantity.full_words, quantity.unknown),
    weights: quantity.weights(layer),
    words: (position) => [`${sentence(quantity.title)}: ${valueWords(quantity, position, layer)}${where}.`],
  };
}

function valueWords(quantity, position, layer) {
  const value = quantity.value(position, layer);
  if (Number.isNaN(value)) return quantity.unknown;
  if (!Number.isFinite(value)) return "every expert was chosen";
  return `${Number.isInteger(value) ? value : value.toPrecision(3)} ${quantity.unit}`;
}

function sentence(words) {
  return words[0].toUpperCase() + words.slice(1);
}
