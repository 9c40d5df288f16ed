import { element, percent } from "./dom.js";

/* The likeliest tokens at one place of the lens: guessPanel(data) returns { root, show(position | null, point) }. */

export function guessPanel(data) {
  const title = element("h4");
  const aid = element("p", { class: "gl-aid" });
  const bars = element("div", { class: "gl-bars" });
  const facts = element("p", { class: "gl-readout", "aria-live": "polite" });
  const root = element("section", { class: "gl-pane gl-guess-pane" }, title, aid, bars, facts);

  function show(position, point) {
    bars.replaceChildren();
    facts.textContent = "";
    if (position === null) {
      title.textContent = "Guesses at one place";
      aid.textContent = "Point at a cell to read its guesses. Click it to keep them; arrow keys walk.";
      return;
    }
    const token = element("span", { class: "gl-quote" }, data.quoted[position]);
    title.replaceChildren("After reading ", token);
    aid.textContent = `At position ${position}, ${data.places[point]}, the model would say:`;
    const right = data.rank(position, point);
    bars.append(...data.guesses(position, point).map((guess, choice) => drawBar(guess, choice === right)));
    facts.textContent = `${nextWords(data, position, right)} Entropy ${data.entropy(position, point).toFixed(2)} nats.`;
  }

  return { root, show };
}

function drawBar({ text, probability }, isRight) {
  const bar = element("i");
  bar.style.setProperty("--gl-share", probability);
  const words = element("span", { class: "gl-bar-text" }, text);
  const made = element("div", { class: "gl-bar" }, words, bar, element("span", {}, percent(probability)));
  made.classList.toggle("gl-right", isRight);
  return made;
}

function nextWords(data, position, rank) {
  if (rank === null) return "What came next is not known.";
  const name = data.next[position] ? `“${data.next[position]}”` : "a token that is not among these";
  const many = rank >= data.farthestRank ? "or more " : "";
  if (rank === 0) return `What came next is ${name}: the likeliest here.`;
  return `What came next is ${name}: ${rank.toLocaleString("en")} ${many}token${rank === 1 ? " is" : "s are"} likelier here.`;
}
