import { element } from "./dom.js";

/* The tokens of a conversation, message by message: hover to read one, click to pin it, arrow keys to walk.

   tokenStrip(conversation, { onHover(position | null), onPin(position | null) }) draws
     conversation.blocks: [{ start, end, kind, title, note }], contiguous
     conversation.shown: [string] a token
     conversation.sections: [0 content | 1 header | 2 control] a token
     conversation.breaks: positions after which a line ends, as a Set
     conversation.nPrompt
   and returns { root, strip, pin(position | null), reveal(member), weigh(weights | null) }, where `member` is an array
   of 0 and 1, a token, and `weights` one of numbers from 0 to 1: null colours by channel again. */

const SECTIONS = ["content", "header", "control"];
let strips = 0;

export function tokenStrip(conversation, { onHover, onPin }) {
  const name = `gl-strip-${strips++}`;
  const tokens = conversation.shown.map((text, position) => {
    const id = `${name}-${position}`;
    const section = SECTIONS[conversation.sections[position]];
    return element("span", { class: "gl-token", role: "option", id, "data-section": section }, text);
  });
  const blocks = conversation.blocks.map((block) => drawBlock(block, tokens, conversation));
  const strip = element(
    "div",
    { class: "gl-strip", tabindex: 0, role: "listbox", "aria-label": "Tokens", "data-lm-suppress-shortcuts": "true" },
    ...blocks,
  );
  const positionOf = new Map(tokens.map((token, position) => [token, position]));
  const at = (event) => positionOf.get(event.target) ?? null;
  let pinned = null;
  let hovered = null;

  strip.addEventListener("pointerover", (event) => hover(at(event)));
  strip.addEventListener("pointerleave", () => hover(null));
  strip.addEventListener("click", (event) => {
    const position = at(event);
    if (position === null) return;
    strip.focus({ preventScroll: true });
    onPin(position === pinned ? null : position);
  });
  strip.addEventListener("keydown", (event) => {
    const target = step(event.key);
    if (target === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    onPin(target);
  });

  function hover(position) {
    if (position === hovered) return;
    hovered = position;
    onHover(position, position === null ? null : tokens[position]);
  }

  function step(key) {
    if (key === "Escape") return null;
    const seen = tokens.flatMap((token, position) => (token.hidden ? [] : [position]));
    const place = seen.indexOf(pinned);
    if (key === "ArrowRight") return seen[Math.min(place + 1, seen.length - 1)];
    if (key === "ArrowLeft") return seen[place < 0 ? seen.length - 1 : Math.max(place - 1, 0)];
    if (key === "Home") return seen[0];
    if (key === "End") return seen[seen.length - 1];
    if (key !== "ArrowDown" && key !== "ArrowUp") return undefined;
    return place < 0 ? seen[0] : nextLine(seen, place, key === "ArrowDown" ? 1 : -1);
  }

  // The token nearest to straight above or below, on the first line that differs from this one.
  function nextLine(seen, place, direction) {
    const from = tokens[seen[place]].getBoundingClientRect();
    let best = seen[place];
    let bestTop = null;
    let bestDistance = Infinity;
    for (let next = place + direction; next >= 0 && next < seen.length; next += direction) {
      const box = tokens[seen[next]].getBoundingClientRect();
      if (Math.abs(box.top - from.top) < 4) continue;
      bestTop ??= box.top;
      if (Math.abs(box.top - bestTop) >= 4) break;
      const distance = Math.abs(box.left - from.left);
      if (distance < bestDistance) [best, bestDistance] = [seen[next], distance];
    }
    return best;
  }

  function pin(position) {
    if (pinned !== null) {
      tokens[pinned].classList.remove("gl-pinned");
      tokens[pinned].removeAttribute("aria-selected");
      strip.removeAttribute("aria-activedescendant");
    }
    pinned = position;
    if (position === null) return;
    tokens[position].classList.add("gl-pinned");
    tokens[position].setAttribute("aria-selected", "true");
    strip.setAttribute("aria-activedescendant", tokens[position].id);
    scrollInto(strip, tokens[position]);
  }

  function reveal(member) {
    tokens.forEach((token, position) => (token.hidden = !member[position]));
    conversation.blocks.forEach((block, number) => {
      blocks[number].hidden = tokens.slice(block.start, block.end).every((token) => token.hidden);
    });
  }

  function weigh(weights) {
    strip.classList.toggle("gl-weighed", weights !== null);
    tokens.forEach((token, position) => {
      const weight = weights === null ? 0 : weights[position];
      token.classList.toggle("gl-weight", weight > 0);
      if (weight > 0) token.style.setProperty("--gl-weight", weight);
    });
  }

  return { root: strip, tokens, pin, reveal, weigh };
}

/* What the strip's colours mean. */
export function channelLegend({ blocks }) {
  const labels = new Map(blocks.map((block) => [block.kind, block.legend]));
  return element(
    "div",
    { class: "gl-legend", "aria-label": "Legend" },
    ...[...labels].map(([kind, label]) => element("span", {}, element("i", { "data-kind": kind }), label)),
    element("span", {}, element("i", { "data-section": "control" }), "control token"),
  );
}

function drawBlock(block, tokens, conversation) {
  const title = element("div", { class: "gl-title" }, element("b", {}, block.title));
  if (block.note) title.append(element("span", { class: "gl-note" }, block.note));
  const text = element("div", { class: "gl-tokens" });
  for (let position = block.start; position < block.end; position++) {
    if (position === conversation.nPrompt) text.append(element("span", { class: "gl-begin" }, "reply begins ▸"));
    text.append(tokens[position]);
    if (conversation.breaks.has(position)) text.append(element("br"));
  }
  return element("div", { class: "gl-block", "data-kind": block.kind, role: "presentation" }, title, text);
}

// Scrolls the strip alone: scrollIntoView would move the notebook too.
function scrollInto(strip, token) {
  const outer = strip.getBoundingClientRect();
  const inner = token.getBoundingClientRect();
  if (inner.top < outer.top + 8) strip.scrollTop -= outer.top + 8 - inner.top;
  else if (inner.bottom > outer.bottom - 8) strip.scrollTop += inner.bottom - outer.bottom + 8;
}
