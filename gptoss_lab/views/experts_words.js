import { amount, count, percent } from "./dom.js";

/* What the experts view says in words (see experts_data.js). */

export function loadWords(data, [layer, expert]) {
  const tokens = data.chosenBy([layer, expert]);
  const share = percent(data.nCounted ? tokens / data.nCounted : 0);
  const weight = amount(data.load([layer, expert]));
  const counts = `${amount(tokens, 0)} of ${amount(data.nCounted, 0)}`;
  return `Layer ${layer}, expert ${expert} served ${share} of ${data.counted} (${counts}), with weight ${weight} in all.`;
}

export function servedWords(n) {
  if (!n) return "It served no token.";
  return `${count(n, "token")}, headers and control tokens included, with the router's weight before them. Click one to pin it.`;
}

export function pinnedWords(data, [layer, expert], position) {
  const weight = data.weight(layer, position, expert);
  const here = weight ? `weight ${weight.toFixed(3)} for this expert` : "not served by this expert";
  const others = Array.from({ length: data.nExperts }, (_, each) => [each, data.weight(layer, position, each)])
    .filter(([each, share]) => each !== expert && share > 0)
    .sort((one, other) => other[1] - one[1])
    .map(([each, share]) => `expert ${each} (${share.toFixed(3)})`);
  const beside = others.length ? `; ${weight ? "beside it" : "served by"} ${others.join(", ")}` : "";
  return `“${data.quoted[position]}” at position ${position}: ${here}${beside}.`;
}

export function promotedWords(promoted) {
  if (promoted.missing) return `What it promotes is not known: ${promoted.missing}.`;
  if (!promoted.tokens) return "It served no token, so nothing can be said of its output.";
  return `Its mean output over ${count(promoted.tokens, "token")}, read as the end of the model would: change of a token's logit.`;
}
