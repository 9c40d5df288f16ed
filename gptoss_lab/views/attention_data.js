import { array, readConversation } from "./strip_data.js";

/* AttentionMap's `data` and `large` with their bytes as arrays (attention_data.py says what is in them). */

export function readOverview(data) {
  const thumbnails = array(Uint8Array, data.thumbnails);
  const size = data.side * data.side;
  const place = ([layer, head]) => data.layers.indexOf(layer) * data.heads.length + data.heads.indexOf(head);
  const sinkMeans = array(Float32Array, data.sinkMeans);
  return {
    ...readConversation(data),
    thumbnail: (name) => thumbnails.subarray(place(name) * size, (place(name) + 1) * size),
    sinkMean: (name) => sinkMeans[place(name)],
    reach: ([layer]) => data.reaches[data.layers.indexOf(layer)],
  };
}

export function readHead(large, nTokens) {
  const { nReads, side } = large;
  const keys = array(nTokens <= 65536 ? Uint16Array : Uint32Array, large.keys);
  const weights = array(Uint16Array, large.weights);
  const sinks = array(Uint16Array, large.sinks);

  /* What a token reads most: [[position, share], ...], strongest first. */
  function reads(position) {
    const found = [];
    for (let at = position * nReads; at < (position + 1) * nReads && weights[at]; at++) {
      found.push([keys[at], weights[at] / 65535]);
    }
    return found;
  }

  /* Who reads a token, of those who read it much: [[position, share], ...], strongest first. */
  function readers(position) {
    const found = [];
    for (let at = position * nReads; at < keys.length; at++) {
      if (keys[at] === position && weights[at]) found.push([Math.floor(at / nReads), weights[at] / 65535]);
    }
    return found.sort((one, other) => other[1] - one[1]);
  }

  /* A token's share of another's attention, or null where it is less than the least that is kept. */
  function share(position, key) {
    return reads(position).find(([each]) => each === key)?.[1] ?? null;
  }

  return {
    name: large.head,
    side,
    picture: array(Uint8Array, large.picture),
    sinks,
    sink: (position) => sinks[position] / 65535,
    least: (position) => weights[(position + 1) * nReads - 1] / 65535,
    reads,
    readers,
    share,
  };
}
