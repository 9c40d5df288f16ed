import { element } from "./dom.js";
import { beyondRow, layOut, rowAt } from "./strip_layout.js";

/* The tokens of a conversation, message by message: hover to read one, click to pin it, arrow keys to walk; drag,
   shift-click or shift-arrow to select a range. Only the rows in view are drawn, so that length costs nothing.

   tokenStrip(conversation, { onHover(position | null, token), onPin(position | null), onSelect([start, end] | null) })
   draws a conversation as readConversation gives it (see strip_data.js), and returns
     { root, pin(position | null), select([start, end] | null), reveal(member), weigh(weights | null), place(position),
       onArrange(act) }
   `end` is exclusive; `member` is an array of 0 and 1, a token; `weights` one of numbers from 0 to 1, where 0 leaves a
   token without colour, and null colours by channel again. place is where a token stands in what `root` scrolls, drawn or
   not: { left, top, width, height } in pixels, null where it is not on show; act() is called when that has changed. */

const SECTIONS = ["content", "header", "control"];
const MARK_MARGIN = 8;
const TITLE_GAP = 12;
const BEYOND = 400; // pixels drawn above and below what is seen
const LEFT = 16; // pixels of a row before its first token: border and padding
const SIDES = 30; // and on both sides, with a little to spare
let strips = 0;

export function tokenStrip(conversation, { onHover, onPin, onSelect = () => {} }) {
  const name = `gl-strip-${strips++}`;
  const lines = element("div", { class: "gl-lines", role: "presentation" });
  const strip = element(
    "div",
    {
      class: "gl-strip",
      tabindex: 0,
      role: "listbox",
      "aria-label": "Tokens",
      "aria-multiselectable": "true",
      "data-lm-suppress-shortcuts": "true",
    },
    lines,
  );
  const positionOf = new WeakMap();
  const tokenOf = new Map();
  const drawn = new Map();
  const measure = ruler(strip, conversation);
  let member = new Uint8Array(conversation.nTokens).fill(1);
  let layout = null;
  let weights = null;
  let pinned = null;
  let selection = null;
  let arranged = () => {};

  new ResizeObserver(arrange).observe(strip);
  strip.addEventListener("scroll", draw);
  listen();

  return { root: strip, pin, select, reveal, weigh, place, onArrange: (act) => (arranged = act) };

  // Drawing

  function arrange() {
    const room = strip.clientWidth - SIDES;
    if (room <= 0) return;
    if (layout?.room === room) return draw();
    layout = { ...layOut(conversation, member, measure, room), room };
    lines.style.height = `${layout.height}px`;
    drawn.clear();
    tokenOf.clear();
    lines.replaceChildren();
    draw();
    showPinned();
    arranged();
  }

  function draw() {
    if (layout === null || !layout.rows.length) return;
    const first = rowAt(layout.rows, strip.scrollTop - BEYOND);
    const last = rowAt(layout.rows, strip.scrollTop + strip.clientHeight + BEYOND);
    if (drawn.has(first) && drawn.has(last) && drawn.size === last - first + 1) return;
    for (const number of [...drawn.keys()]) if (number < first || number > last) erase(number);
    for (let number = first; number <= last; number++) if (!drawn.has(number)) drawn.set(number, drawRow(number));
    lines.replaceChildren(...Array.from({ length: last - first + 1 }, (_, index) => drawn.get(first + index)));
  }

  function erase(number) {
    layout.rows[number].positions.forEach((position) => tokenOf.delete(position));
    drawn.delete(number);
  }

  function drawRow(number) {
    const row = layout.rows[number];
    const block = conversation.blocks[row.block];
    const made = element("div", {
      class: `gl-line${row.title ? " gl-title" : ""}${row.last ? " gl-last" : ""}`,
      role: "presentation",
      "data-kind": block.kind,
      "data-block": row.block,
    });
    made.style.top = `${row.top}px`;
    made.style.height = `${row.height}px`;
    if (row.title) made.append(element("b", {}, block.title));
    if (row.title && block.note) made.append(element("span", { class: "gl-note" }, block.note));
    for (const position of row.positions) {
      const mark = conversation.marks.get(position);
      if (mark) made.append(element("span", { class: "gl-begin" }, mark));
      made.append(drawToken(position));
    }
    return made;
  }

  function drawToken(position) {
    const token = element(
      "span",
      {
        class: "gl-token",
        role: "option",
        id: `${name}-${position}`,
        "data-section": SECTIONS[conversation.sections[position]],
        "data-turn": position % 2 ? "odd" : "even",
        "data-given": conversation.isGiven?.(position),
        "aria-posinset": position + 1,
        "aria-setsize": conversation.nTokens,
      },
      conversation.shown[position],
    );
    positionOf.set(token, position);
    tokenOf.set(position, token);
    dress(token, position);
    return token;
  }

  function dress(token, position) {
    const chosen = position === pinned || (selection !== null && position >= selection[0] && position < selection[1]);
    token.classList.toggle("gl-pinned", position === pinned);
    token.classList.toggle("gl-selected", chosen && selection !== null);
    token.setAttribute("aria-selected", String(chosen));
    const weight = weights === null ? 0 : weights[position];
    token.classList.toggle("gl-weight", weight > 0);
    if (weight > 0) token.style.setProperty("--gl-weight", weight.toFixed(4));
  }

  function dressAll() {
    tokenOf.forEach(dress);
  }

  function place(position) {
    if (layout === null || layout.rowOf[position] < 0) return null;
    const { top } = layout.rows[layout.rowOf[position]];
    const width = Math.min(measure.token(position), layout.room);
    return { left: LEFT + layout.leftOf[position], top: top + 2, width, height: 20 };
  }

  // State

  function pin(position) {
    if (position === pinned) return;
    pinned = position;
    dressAll();
    showPinned();
  }

  function select(range) {
    selection = range;
    dressAll();
    if (range !== null) show(lead());
  }

  function reveal(next) {
    member = next;
    layout = null;
    arrange();
  }

  function weigh(next) {
    weights = next;
    strip.classList.toggle("gl-weighed", weights !== null);
    dressAll();
  }

  function showPinned() {
    if (pinned === null) strip.removeAttribute("aria-activedescendant");
    else if (selection === null) show(pinned);
  }

  // Scrolls the strip alone: scrollIntoView would move the notebook too.
  function show(position) {
    strip.removeAttribute("aria-activedescendant");
    if (layout === null || layout.rowOf[position] < 0) return;
    strip.setAttribute("aria-activedescendant", `${name}-${position}`);
    const { top, height } = layout.rows[layout.rowOf[position]];
    if (top < strip.scrollTop + 8) strip.scrollTop = top - 8;
    else if (top + height > strip.scrollTop + strip.clientHeight - 8) {
      strip.scrollTop = top + height + 8 - strip.clientHeight;
    }
    draw();
  }

  // Gestures

  function listen() {
    const at = (event) => positionOf.get(event.target) ?? null;
    let hovered = null;
    let from = null; // where a drag began
    let dragged = false;

    strip.addEventListener("pointerover", (event) => {
      hover(at(event));
      if (from === null || hovered === null || (hovered === from && !dragged)) return;
      dragged = true;
      onPin(from);
      onSelect(range(from, hovered));
    });
    strip.addEventListener("pointerleave", () => hover(null));
    strip.addEventListener("pointerdown", (event) => {
      dragged = false;
      from = event.button === 0 && event.pointerType !== "touch" && !event.shiftKey ? at(event) : null;
    });
    window.addEventListener("pointerup", () => (from = null));
    strip.addEventListener("click", (event) => {
      const position = at(event);
      if (position === null || dragged) return;
      strip.focus({ preventScroll: true });
      if (event.shiftKey && pinned !== null) onSelect(range(pinned, position));
      else choose(position === pinned && selection === null ? null : position);
    });
    strip.addEventListener("keydown", (event) => {
      const target = event.ctrlKey || event.metaKey || event.altKey ? undefined : step(event.key);
      if (target === undefined) return;
      event.preventDefault();
      event.stopPropagation();
      if (!event.shiftKey || target === null || lead() === null) return choose(target);
      if (pinned === null) onPin(lead());
      onSelect(range(pinned ?? lead(), target));
    });
    strip.addEventListener("copy", (event) => {
      const [start, end] = selection ?? [pinned ?? 0, pinned === null ? 0 : pinned + 1];
      if (start === end) return;
      event.clipboardData.setData("text/plain", conversation.shown.slice(start, end).join("").replaceAll("↵", "\n"));
      event.preventDefault();
    });

    function hover(position) {
      if (position === hovered) return;
      hovered = position;
      onHover(position, position === null ? null : tokenOf.get(position));
    }
  }

  function choose(position) {
    onSelect(null);
    onPin(position);
  }

  // The end of the selection that moves; the other one is pinned.
  function lead() {
    if (selection === null) return pinned;
    return selection[0] === pinned ? selection[1] - 1 : selection[0];
  }

  function step(key) {
    if (key === "Escape") return null;
    if (layout === null || !layout.order.length) return undefined;
    const { order, placeOf } = layout;
    const from = lead();
    const place = from === null ? -1 : placeOf[from];
    if (key === "ArrowRight") return order[Math.min(place + 1, order.length - 1)];
    if (key === "ArrowLeft") return order[place < 0 ? order.length - 1 : Math.max(place - 1, 0)];
    if (key === "Home") return order[0];
    if (key === "End") return order[order.length - 1];
    if (key !== "ArrowDown" && key !== "ArrowUp") return undefined;
    return place < 0 ? order[0] : beyondRow(layout, from, key === "ArrowDown" ? 1 : -1);
  }
}

/* What the strip's colours mean, while they mean channels. */
export function channelLegend({ blocks }) {
  const labels = new Map(blocks.map((block) => [block.kind, block.legend]));
  return element(
    "div",
    { class: "gl-legend", "aria-label": "Legend" },
    ...[...labels].map(([kind, label]) => element("span", {}, element("i", { "data-kind": kind }), label)),
    element("span", {}, element("i", { "data-section": "control" }), "control token"),
  );
}

function range(one, other) {
  return [Math.min(one, other), Math.max(one, other) + 1];
}

/* Widths in pixels, as the strip's style sheet will have them: measured once a text. */
function ruler(strip, { shown, sections }) {
  const canvas = document.createElement("canvas").getContext("2d");
  const known = new Map();
  const width = (text, font) => {
    const style = getComputedStyle(strip);
    canvas.font = font(style.getPropertyValue("--gl-mono"), style.getPropertyValue("--gl-prose"));
    return canvas.measureText(text).width;
  };
  return {
    token: (position) => {
      const section = sections[position];
      const key = section + shown[position];
      if (!known.has(key)) {
        const bare = width(shown[position], (mono) => `${section ? 11.5 : 13}px ${mono}`);
        known.set(key, Math.max(4, bare + (section === 2 ? 8 : 0)) + 1);
      }
      return known.get(key);
    },
    mark: (words) => width(words, (_, prose) => `600 11px ${prose}`) + MARK_MARGIN,
    title: ({ title, note }) => width(title, (_, prose) => `600 12px ${prose}`) + width(note, (_, prose) => `12px ${prose}`) + TITLE_GAP,
  };
}

