/* A conversation (see strip_data.py) with its bytes as arrays, and what can be looked up in it. */

export function readConversation(data) {
  const { nTokens, nPrompt } = data;
  const logprobs = array(Float32Array, data.logprobs);
  const facetOf = { role: array(Uint16Array, data.roles), channel: array(Uint16Array, data.channels) };
  const numberOf = (facet, name) => data.facets[facet].findIndex((each) => each.name === name);

  /* Which positions a filter { part, role, channel } lets through, [position] of 0 and 1; null lets all through. */
  function member({ part, role, channel }) {
    const wanted = { role, channel };
    const passes = Object.keys(wanted).filter((facet) => wanted[facet] !== null);
    const numbers = Object.fromEntries(passes.map((facet) => [facet, numberOf(facet, wanted[facet])]));
    return Uint8Array.from({ length: nTokens }, (_, position) => {
      if (part !== null && (part === "reply") !== position >= nPrompt) return 0;
      return passes.every((facet) => facetOf[facet][position] === numbers[facet]) ? 1 : 0;
    });
  }

  return {
    ...data,
    sections: array(Uint8Array, data.sections),
    breaks: new Set(array(Int32Array, data.breaks)),
    marks: new Map([[nPrompt, "reply begins ▸"], ...(data.marks ?? [])]), // words before a token
    ids: array(Int32Array, data.ids),
    quantities: (data.quantities ?? []).map((quantity) => readQuantity(quantity, nTokens)),
    alternatives: readAlternatives(data.alternatives),
    member,
    titleOf: (facet, name) => data.facets[facet][numberOf(facet, name)].title,
    /* A token's probability after those before it; null where it is not known. */
    probability: (position) => (Number.isNaN(logprobs[position]) ? null : Math.exp(logprobs[position])),
  };
}

// Adds to a quantity: value(position, layer | null), NaN where unknown, and weights(layer | null), the strength of each
// token's colour from 0 to 1 (0: unknown, no colour).
function readQuantity(quantity, nTokens) {
  const { faint, full, layered } = quantity;
  const values = array(Float32Array, quantity.values);
  const rows = values.length / nTokens;
  const value = (position, layer) => values[(layered ? (layer ?? rows - 1) : 0) * nTokens + position];
  const strength = (number) => {
    if (Number.isNaN(number)) return 0;
    return Math.min(Math.max((number - faint) / (full - faint), 0.0001), 1);
  };
  const weights = (layer) => Float32Array.from({ length: nTokens }, (_, at) => strength(value(at, layer)));
  return { ...quantity, value, weights };
}

// From a position to its likeliest tokens, [{ text, probability }]; none where they were not recorded.
function readAlternatives(recorded) {
  if (!recorded) return () => [];
  const { width, texts } = recorded;
  const of = array(Int32Array, recorded.of);
  const logprobs = array(Float32Array, recorded.logprobs);
  return (position) =>
    [...of.subarray(position * width, (position + 1) * width)].flatMap((text, choice) =>
      text < 0 ? [] : [{ text: texts[text], probability: Math.exp(logprobs[position * width + choice]) }],
    );
}

// Copied, since a view into a message need not start where numbers may.
export function array(Type, view) {
  return new Type(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength));
}
