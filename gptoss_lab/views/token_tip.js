import { element, percent } from "./dom.js";

/* What a token is, beside it, over `view`: { root, show(position | null, token, more) }. `data` is a conversation (see
   strip_data.js); `more` holds further lines of text. */
export function tokenTip(view, data) {
  const root = element("div", { class: "gl-tip", hidden: true });
  function show(position, token, more = []) {
    root.hidden = position === null;
    if (position === null) return;
    const block = data.blocks.find((each) => position < each.end);
    root.replaceChildren(
      element("b", {}, data.quoted[position]),
      element("div", {}, `id ${data.ids[position]} at position ${position}`),
      element("div", {}, block.title + ["", ", header", ", control token"][data.sections[position]]),
      element("div", {}, sampledWords(data, position)),
      ...more.map((line) => element("div", {}, line)),
      ...alternatives(data, position),
    );
    place(root, token, view);
  }
  return { root, show };
}

/* How a token came about, in words. */
export function sampledWords(data, position) {
  const probability = data.probability(position);
  const likely = probability === null ? "" : ` with probability ${percent(probability)}`;
  if (position >= data.nPrompt && !data.isGiven?.(position)) return `Sampled${likely}.`;
  return likely ? `Given; the model would have sampled it${likely}.` : "Given, not sampled.";
}

// The likeliest tokens at its place, each with its probability as a number and as a bar.
function alternatives(data, position) {
  const likeliest = data.alternatives(position);
  if (!likeliest.length) return [];
  const rows = likeliest.flatMap(({ text, probability }) => {
    const bar = element("i");
    bar.style.width = `${100 * probability}%`;
    const name = element("span", { class: text === data.quoted[position] ? "gl-taken" : null }, text);
    return [name, element("span", { class: "gl-chance" }, percent(probability)), element("span", {}, bar)];
  });
  return [element("div", { class: "gl-others" }, "Likeliest here:"), element("div", { class: "gl-choices" }, ...rows)];
}

// Below the token, or above it where the view ends; never past the view's sides.
function place(tip, token, view) {
  const outer = view.getBoundingClientRect();
  const [first] = token.getClientRects();
  const left = Math.min(first.left - outer.left, outer.width - tip.offsetWidth - 4);
  const below = first.bottom - outer.top + 6;
  const above = first.top - outer.top - tip.offsetHeight - 6;
  const top = below + tip.offsetHeight < outer.height || above < 0 ? below : above;
  tip.style.transform = `translate(${Math.max(4, left)}px, ${top}px)`;
}
