import { array, readConversation } from "./strip_data.js";

/* RoutingMap's `data` with its bytes as arrays, and what can be looked up in them. Positions, layers, experts and ranks
   are numbers from 0. */

export function readRouting(data) {
  return { ...readConversation(data), ...readChoices(data) };
}

const WHOLE = 65535; // a weight of 1, as it is sent

/* The routers' choices alone: of data that holds nTokens, nLayers, nExperts, k, experts and weights. */
export function readChoices({ nTokens, nLayers, nExperts, k, ...data }) {
  const size = nLayers * nExperts;
  const experts = array(nExperts <= 256 ? Uint8Array : Uint16Array, data.experts);
  const weights = array(Uint16Array, data.weights);

  const start = (layer, position) => (layer * nTokens + position) * k;

  /* The rank at which an expert was chosen, or -1. */
  function rank(layer, position, expert) {
    return experts.subarray(start(layer, position), start(layer, position) + k).indexOf(expert);
  }

  function weight(layer, position, expert) {
    const chosen = rank(layer, position, expert);
    return chosen < 0 ? 0 : weights[start(layer, position) + chosen] / WHOLE;
  }

  /* What the tokens of `where`, [position] of 0 and 1, gave each expert, and how many of them chose it: { counted,
     weights, choosers }, the last two [layer, expert], flat. */
  function sums(where) {
    const totals = new Float64Array(size);
    const choosers = new Int32Array(size);
    let counted = 0;
    for (let position = 0; position < nTokens; position++) {
      if (!where[position]) continue;
      counted++;
      for (let layer = 0; layer < nLayers; layer++) {
        const first = start(layer, position);
        for (let at = first; at < first + k; at++) {
          totals[layer * nExperts + experts[at]] += weights[at];
          choosers[layer * nExperts + experts[at]]++;
        }
      }
    }
    return { counted, weights: totals.map((each) => each / WHOLE), choosers };
  }

  /* Every token's weight for an expert, [position]. */
  function weightsFor([layer, expert]) {
    return Float32Array.from({ length: nTokens }, (_, position) => weight(layer, position, expert));
  }

  return { rank, weight, sums, weightsFor };
}
