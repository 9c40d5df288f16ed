import { amount, count, percent } from "./dom.js";
import { sampledWords } from "./token_tip.js";

/* What the routing map says in words about a state { group, pinned, cell } of its data (see routing_data.js). */

export function stripWords(data, { group, cell }) {
  if (!cell) {
    return {
      title: "Tokens by channel",
      aid: "Point at a token to read it. Click it, or walk with the arrow keys, to see its experts.",
    };
  }
  const shown = data.member(group);
  const served = data.weightsFor(cell).filter((weight, position) => weight > 0 && shown[position]).length;
  const all = shown.filter((each) => each).length;
  return {
    title: `Tokens by their weight for expert ${cell[1]} of layer ${cell[0]}`,
    aid: `${count(served, "token")} of the ${amount(all, 0)} on show went there. Click its cell again to let go.`,
  };
}

/* The map's reading aid: under a title that names the pinned token or the group. */
export function mapWords(data, { group, pinned }) {
  if (pinned !== null) {
    return `${sampledWords(data, pinned)} In each layer the ${data.k} weights add up to 1. Esc lets the token go.`;
  }
  const { counted } = data.groups[group];
  if (!counted) return "There are no content tokens here to sum over.";
  const even = amount(counted / data.nExperts);
  return (
    `Router weight, summed over ${count(counted, "content token")}; headers are left out. ` +
    `If all experts did the same, each would have ${even}.`
  );
}

export function cellWords(data, { group, pinned }, cell) {
  if (!cell) return "Point at a cell to read it. Click it to see which tokens that expert served.";
  const where = `Layer ${cell[0]}, expert ${cell[1]}:`;
  if (pinned !== null) {
    const rank = data.rank(cell[0], pinned, cell[1]);
    if (rank < 0) return `${where} not chosen for this token.`;
    return `${where} weight ${data.weight(cell[0], pinned, cell[1]).toFixed(3)}, choice ${rank + 1} of ${data.k}.`;
  }
  const { counted, label } = data.groups[group];
  if (!counted) return `${where} nothing to sum.`;
  const choosers = data.choosers(group, cell);
  const share = percent(choosers / counted);
  const sum = amount(data.sum(group, cell));
  return `${where} weight ${sum} in all, from ${count(choosers, "token")} (${share} of ${label}).`;
}
