import { readChoices } from "./routing_data.js";
import { array, readConversation } from "./strip_data.js";

/* ExpertsMap's `data` with its bytes as arrays (experts_data.py says what is in it), and what can be looked up in it. */

export function readExperts(data) {
  const routes = readChoices(data);
  const sums = array(Float32Array, data.sums);
  const choosers = array(Int32Array, data.choosers);
  const place = ([layer, expert]) => layer * data.nExperts + expert;

  /* The tokens that an expert served: [[position, weight], ...], heaviest first or as they stand in the text. */
  function served(expert, order) {
    const found = [...routes.weightsFor(expert).entries()].filter(([, weight]) => weight > 0);
    return order === "weight" ? found.sort((one, other) => other[1] - one[1]) : found;
  }

  return {
    ...readConversation(data),
    ...routes,
    served,
    loads: sums,
    most: Math.max(...sums) || 1,
    load: (expert) => sums[place(expert)],
    chosenBy: (expert) => choosers[place(expert)],
  };
}
