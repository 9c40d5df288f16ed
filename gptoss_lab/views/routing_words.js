import { amount, count, percent } from "./dom.js";
import { sampledWords } from "./token_tip.js";

/* What the routing map says in words. Its subject is what it shows: { position, label, total }, a token, or several
   where position is null; `total` is what `sums` of its data gives (see routing_data.js). */

/* The tokens that a filter { part, role, channel } lets through, in a sentence: "experts of ...". */
export function filterWords(data, { part, role, channel }) {
  const words = [{ prompt: "the prompt", reply: "the reply" }[part] ?? "the whole conversation"];
  if (role !== null) words.push(`role “${data.titleOf("role", role)}”`);
  if (channel !== null) words.push(`channel “${data.titleOf("channel", channel)}”`);
  return words.join(", ");
}

/* The strip's reading aid while a cell is picked. */
export function servedWords(member, weights) {
  const served = weights.filter((weight, position) => weight > 0 && member[position]).length;
  const all = member.reduce((sum, each) => sum + each, 0);
  return `${count(served, "token")} of the ${amount(all, 0)} on show went there. Click its cell again to let go.`;
}

/* The map's reading aid: under a title that names the subject. */
export function mapWords(data, { position, selected, total: { counted } }) {
  if (position !== null) {
    return `${sampledWords(data, position)} In each layer the ${data.k} weights add up to 1. Esc lets the token go.`;
  }
  if (!counted) return "There are no content tokens here to sum over.";
  const even = amount(counted / data.nExperts);
  const what = selected ? count(counted, "selected token") : `${count(counted, "content token")}; headers are left out`;
  const letGo = selected ? " Esc lets them go." : "";
  return `Router weight, summed over ${what}. If all experts did the same, each would have ${even}.${letGo}`;
}

export function cellWords(data, { position, label, total: { counted, weights, choosers } }, cell) {
  if (!cell) return "Point at a cell to read it. Click it to see which tokens that expert served.";
  const where = `Layer ${cell[0]}, expert ${cell[1]}:`;
  if (position !== null) {
    const rank = data.rank(cell[0], position, cell[1]);
    if (rank < 0) return `${where} not chosen for this token.`;
    return `${where} weight ${data.weight(cell[0], position, cell[1]).toFixed(3)}, choice ${rank + 1} of ${data.k}.`;
  }
  if (!counted) return `${where} nothing to sum.`;
  const index = cell[0] * data.nExperts + cell[1];
  const share = percent(choosers[index] / counted);
  return `${where} weight ${amount(weights[index])} in all, from ${count(choosers[index], "token")} (${share} of ${label}).`;
}
