import { arcs } from "./arcs.js";
import { readHead, readOverview } from "./attention_data.js";
import { arcWords, headWords, pixelWords } from "./attention_words.js";
import { element } from "./dom.js";
import { headGrid } from "./head_grid.js";
import { hostView } from "./host_view.js";
import { patternPicture } from "./pattern_picture.js";
import { shareBar } from "./share_bar.js";
import { channelLegend, tokenStrip } from "./token_strip.js";
import { tokenTip } from "./token_tip.js";
import { onThemeChange, weightColours, weightLegend } from "./weight_colours.js";

/* What each token reads: every head small, one head large, and arcs on the tokens.

   Reads `data` and `large` (attention_data.py says what is in them; `large` may be null on a page that does not hold the
   head). Reads and writes `head` ([layer, head]) and `pinned` (a position or null). Reads `direction`. */

export function render({ model, el }) {
  const draw = (root, set) => drawAttention(root, readOverview(model.get("data")), set);
  return hostView({ model, el }, "gl-attention", ["head", "large", "pinned", "direction"], draw);
}

export default { render };

const MOST_ARCS = 40;

function drawAttention(root, data, set) {
  let state = {};
  let head = null;
  let hovered = null;
  let colours = null;
  const tip = tokenTip(root, data);
  const strip = tokenStrip(data, {
    onHover: (position, token) => {
      tip.show(position, token);
      hovered = position;
      drawToken();
    },
    onPin: (position) => set("pinned", position),
  });
  const showArcs = arcs(strip, data.nTokens);
  const bar = shareBar();
  const grid = headGrid(data, {
    onHover: (name) => (gridReadout.textContent = headWords(data, name ?? state.head)),
    onPick: (name) => set("head", name),
  });
  const picture = patternPicture(data, {
    onHover: (pixel) => (readout.textContent = pixel && head ? pixelWords(data, head, pixel) : POINT),
    onPick: (position) => set("pinned", position),
  });
  const gridReadout = element("p", { class: "gl-readout", "aria-live": "polite" });
  const readout = element("p", { class: "gl-readout", "aria-live": "polite" });
  const largeTitle = element("h4");
  const stripTitle = element("h4");
  const stripAid = element("p", { class: "gl-aid" });

  root.replaceChildren(
    element(
      "section",
      { class: "gl-pane gl-grid-pane" },
      element("h4", {}, "Every head"),
      element("p", { class: "gl-aid" }, "Each picture is one head: a row a token that reads, a column a token that is read."),
      grid.root,
      sinkLegend(),
      gridReadout,
    ),
    element(
      "section",
      { class: "gl-pane gl-large-pane" },
      largeTitle,
      picture.root,
      weightLegend("out of sight", "Share of a token's attention"),
      readout,
    ),
    element(
      "section",
      { class: "gl-pane gl-wide-pane" },
      stripTitle,
      stripAid,
      element("span", { class: "gl-axis" }, "where all of its attention goes"),
      bar.root,
      channelLegend(data),
      strip.root,
    ),
    tip.root,
  );
  onThemeChange(picture.root, () => {
    colours = null;
    drawHeads();
  });
  strip.onArrange(drawToken);
  // A widget may draw before it has a place on the page, and without one there are no colours.
  new ResizeObserver(drawHeads).observe(strip.root);
  readout.textContent = POINT;

  function drawHeads() {
    if (!root.isConnected) return;
    if (colours === null) {
      colours = weightColours(root);
      grid.paint(colours);
    }
    picture.show(head, colours);
  }

  // The token that is pointed at, or else the pinned one; without either, the head as a whole.
  function drawToken() {
    const position = hovered ?? state.pinned;
    stripAid.textContent = head ? arcWords(data, head, position, state.direction) : NOT_HERE;
    if (!head || position === null) {
      stripTitle.textContent = "All tokens in this head";
      showArcs(null, []);
      bar.show(data.sinkMean(state.head), []);
      return;
    }
    const token = element("span", { class: "gl-quote" }, data.quoted[position]);
    stripTitle.replaceChildren(...(state.direction === "reads" ? ["What ", token, " reads"] : ["What reads ", token]));
    const ends = state.direction === "reads" ? head.reads(position) : head.readers(position).slice(0, MOST_ARCS);
    showArcs(position, ends);
    bar.show(head.sink(position), head.reads(position).map(([key, share]) => [data.quoted[key], share]));
  }

  return (next) => {
    const rehead = String(next.head) !== String(state.head) || next.large !== state.large;
    state = next;
    if (rehead) {
      const isHere = next.large && String(next.large.head) === String(next.head);
      head = isHere ? readHead(next.large, data.nTokens) : null;
      grid.pick(next.head);
      drawHeads();
      largeTitle.textContent = `Layer ${next.head[0]}, head ${next.head[1]}`;
      gridReadout.textContent = headWords(data, next.head);
    }
    strip.pin(next.pinned);
    picture.pin(next.pinned);
    drawToken();
  };
}

const POINT = "Point at the picture to read it. Click a row to pin its token.";
const NOT_HERE = "This head is still to come, or this file does not hold it large: a notebook shows every head.";

function sinkLegend() {
  const example = element("i", { class: "gl-sink" });
  example.style.setProperty("--gl-share", 0.6);
  return element("div", { class: "gl-ramp" }, example, element("span", {}, "share that goes to the sink, mean over tokens"));
}
