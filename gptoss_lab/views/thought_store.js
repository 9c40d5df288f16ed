/* The branches of an exported page (see page_branches in thought_data.py): what a branch has in common with its parent
   is there once, and put before it here.

   storedBranch(store, number) returns a branch's data, as branch_data gives it. */

const STORED_TEXTS = ["shown", "quoted"];
const STORED_BYTES = ["sections", "ids", "logprobs", "entropies", "given"];

export function storedBranch(store, number) {
  const { parent, shared, alternatives, ...own } = store.branches[number];
  const before = shared ? storedBranch(store, parent) : null;
  const joined = (part) => (before === null ? part(own) : joinedBytes(part(before), part(own), shared / before.nTokens));
  const data = { ...own };
  for (const name of STORED_TEXTS) {
    data[name] = before === null ? own[name] : [...before[name].slice(0, shared), ...own[name]];
  }
  for (const name of STORED_BYTES) data[name] = joined((from) => from[name]);
  own.alternatives = alternatives;
  const others = (name) => joined((from) => from.alternatives[name]);
  data.alternatives = { width: alternatives.width, texts: store.texts, of: others("of"), logprobs: others("logprobs") };
  const [surprisal, entropy] = store.quantities;
  data.quantities = [
    { ...surprisal, values: negated(data.logprobs) },
    { ...entropy, values: data.entropies },
  ];
  return data;
}

// The first share of one, and all of the other.
function joinedBytes(one, other, share) {
  const length = Math.round(one.byteLength * share);
  const bytes = new Uint8Array(length + other.byteLength);
  bytes.set(new Uint8Array(one.buffer, one.byteOffset, length));
  bytes.set(new Uint8Array(other.buffer, other.byteOffset, other.byteLength), length);
  return new DataView(bytes.buffer);
}

function negated(logprobs) {
  const bytes = logprobs.buffer.slice(logprobs.byteOffset, logprobs.byteOffset + logprobs.byteLength);
  return new DataView(new Float32Array(bytes).map((value) => -value).buffer);
}
