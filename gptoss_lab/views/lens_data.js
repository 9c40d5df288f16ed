import { array, readConversation } from "./strip_data.js";

/* LensGrid's `data` with its bytes as arrays (lens_data.py says what is in it), and what can be looked up in it. */

export function readLens(data) {
  const { nGuesses, mostEntropy } = data;
  const nPoints = data.points.length;
  const guesses = array(data.texts.length <= 65536 ? Uint16Array : Uint32Array, data.guesses);
  const probabilities = array(Uint16Array, data.probabilities);
  const entropies = array(Uint16Array, data.entropies);
  const ranks = array(Uint16Array, data.ranks);
  const hasNext = array(Uint8Array, data.hasNext);
  const place = (position, point) => position * nPoints + point;

  const guess = (position, point, choice = 0) => {
    const at = place(position, point) * nGuesses + choice;
    return { text: data.texts[guesses[at]], probability: probabilities[at] / 65535 };
  };
  const entropy = (position, point) => (entropies[place(position, point)] / 65535) * mostEntropy;
  /* How many tokens were likelier than the one that came next; null where none did. */
  const rank = (position, point) => (hasNext[position] ? ranks[place(position, point)] : null);
  const farthest = Math.max(1, ranks.reduce((most, each) => Math.max(most, each), 0));

  /* How strongly a place is coloured, from 0 to 1: the surer, the stronger; 0 where nothing is known. */
  const strengths = {
    probability: (position, point) => guess(position, point).probability,
    entropy: (position, point) => 1 - entropy(position, point) / mostEntropy,
    rank: (position, point) =>
      hasNext[position] ? 1 - Math.log1p(rank(position, point)) / Math.log1p(farthest) : 0,
  };

  return {
    ...readConversation(data),
    guess,
    guesses: (position, point) => Array.from({ length: nGuesses }, (_, choice) => guess(position, point, choice)),
    entropy,
    rank,
    isRight: (position, point) => rank(position, point) === 0,
    farthest,
    strengths,
    /* The numbers of the points on show. */
    shownPoints: (detail) => [...data.points.keys()].filter((point) => detail === "all" || data.isLayerEnd[point]),
  };
}
