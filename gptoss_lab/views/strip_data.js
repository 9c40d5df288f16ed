/* A conversation (see strip_data.py) with its bytes as arrays. */

export function readConversation(data) {
  const logprobs = array(Float32Array, data.logprobs);
  return {
    ...data,
    sections: array(Uint8Array, data.sections),
    breaks: new Set(array(Int32Array, data.breaks)),
    ids: array(Int32Array, data.ids),
    /* A token's probability after those before it; null where it is not known. */
    probability: (position) => (Number.isNaN(logprobs[position]) ? null : Math.exp(logprobs[position])),
  };
}

// Copied, since a view into a message need not start where numbers may.
export function array(Type, view) {
  return new Type(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength));
}
