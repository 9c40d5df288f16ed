import { readChoices } from "./routing_data.js";
import { array, readConversation } from "./strip_data.js";

/* CompareMap's `data` with its bytes as arrays (compare_data.py says what is in it). Positions are the first run's,
   unless they are called others. */

export function readComparison(data) {
  const secondOf = array(Int32Array, data.secondOf);
  const logprobs = array(Float32Array, data.secondLogprobs);
  const firstOf = new Int32Array(data.secondChoices.nTokens).fill(-1);
  secondOf.forEach((other, position) => other >= 0 && (firstOf[other] = position));
  const first = readConversation(data);

  /* A { pinned, selection, ... } of the one run as one of the other: of a selection, what stands in both. */
  const across = (map) => (state) => {
    const selected = state.selection === null ? [] : Array.from(map.subarray(...state.selection)).filter((other) => other >= 0);
    const position = state.pinned === null ? -1 : map[state.pinned];
    return {
      ...state,
      pinned: position < 0 ? null : position,
      selection: selected.length ? [Math.min(...selected), Math.max(...selected) + 1] : null,
    };
  };

  return {
    ...first,
    secondOf,
    firstOf,
    choices: [readChoices(data), readChoices(data.secondChoices)],
    /* The second run's conversation, coloured as the first's tokens are; null where both read the same. */
    other: data.second && {
      ...readConversation(data.second),
      quantities: first.quantities.map((quantity) => moveQuantity(quantity, firstOf)),
    },
    toSecond: across(secondOf),
    toFirst: across(firstOf),
    /* A token's probability in the second run; null where that is not known. */
    secondProbability: (position) => (Number.isNaN(logprobs[position]) ? null : Math.exp(logprobs[position])),
    flips: readFlips(data.flips),
  };
}

function moveQuantity(quantity, firstOf) {
  const value = (other, layer) => (firstOf[other] < 0 ? NaN : quantity.value(firstOf[other], layer));
  const weights = (layer) => {
    const strengths = quantity.weights(layer);
    return Float32Array.from(firstOf, (position) => (position < 0 ? 0 : strengths[position]));
  };
  return { ...quantity, value, weights };
}

// { total, sent, of(where) }: all of the tokens of `where`, [position] of 0 and 1; largest margins first.
function readFlips({ total, ...columns }) {
  const [layer, position, left, joined] = ["layer", "position", "left", "joined"].map((name) =>
    array(Int32Array, columns[name]),
  );
  const margins = [array(Float32Array, columns.margin), array(Float32Array, columns.otherMargin)];
  const noise = array(Uint8Array, columns.noise);
  const row = (at) => ({
    layer: layer[at],
    position: position[at],
    left: left[at],
    joined: joined[at],
    margins: margins.map((each) => each[at]),
    noise: noise[at] === 1,
  });
  return {
    total,
    sent: layer.length,
    of: (where) => Array.from(layer.keys()).filter((at) => where[position[at]]).map(row),
  };
}
