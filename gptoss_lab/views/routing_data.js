import { array, readConversation } from "./strip_data.js";

/* RoutingMap's `data` with its bytes as arrays, and what can be looked up in them. Positions, layers, experts, ranks
   and groups are numbers from 0. */

export function readRouting(data) {
  const { nTokens, nLayers, nExperts, k } = data;
  const size = nLayers * nExperts;
  const experts = array(nExperts <= 256 ? Uint8Array : Uint16Array, data.experts);
  const weights = array(Float32Array, data.weights);
  const members = array(Uint8Array, data.members);
  const sums = array(Float32Array, data.sums);
  const choosers = array(Int32Array, data.choosers);

  const start = (layer, position) => (layer * nTokens + position) * k;
  const row = (all, group, width) => all.subarray(group * width, (group + 1) * width);

  /* The rank at which an expert was chosen, or -1. */
  function rank(layer, position, expert) {
    return experts.subarray(start(layer, position), start(layer, position) + k).indexOf(expert);
  }

  function weight(layer, position, expert) {
    const chosen = rank(layer, position, expert);
    return chosen < 0 ? 0 : weights[start(layer, position) + chosen];
  }

  /* A token's weights, [layer, expert], flat. */
  function route(position) {
    const dense = new Float32Array(size);
    for (let layer = 0; layer < nLayers; layer++) {
      const first = start(layer, position);
      for (let at = first; at < first + k; at++) dense[layer * nExperts + experts[at]] = weights[at];
    }
    return dense;
  }

  /* Every token's weight for an expert, [position]. */
  function weightsFor([layer, expert]) {
    return Float32Array.from({ length: nTokens }, (_, position) => weight(layer, position, expert));
  }

  return {
    ...readConversation(data),
    rank,
    weight,
    route,
    weightsFor,
    groupCalled: (name) => Math.max(0, data.groups.findIndex((group) => group.name === name)),
    member: (group) => row(members, group, nTokens),
    sums: (group) => row(sums, group, size),
    sum: (group, [layer, expert]) => sums[group * size + layer * nExperts + expert],
    choosers: (group, [layer, expert]) => choosers[group * size + layer * nExperts + expert],
    most: (group) => Math.max(...row(sums, group, size)),
  };
}
