import { element, percent } from "./dom.js";
import { sampledWords } from "./token_tip.js";

/* The pinned token, and what else might have stood in its place.

   tokenCard(data, { onTake(position, choice) | null }) returns { root, show(position | null), enter() }. With onTake each
   alternative is a button that takes it instead; enter() moves the keyboard there. */

export function tokenCard(data, { onTake }) {
  const title = element("h4");
  const facts = element("p", { class: "gl-readout", "aria-live": "polite" });
  const others = element("div", { class: "gl-takes" });
  const aid = element("p", { class: "gl-aid" });
  const root = element("section", { class: "gl-pane gl-card" }, title, facts, others, aid);
  let shown;

  others.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step === undefined) return;
    const buttons = [...others.querySelectorAll("button")];
    buttons[Math.min(Math.max(buttons.indexOf(document.activeElement) + step, 0), buttons.length - 1)]?.focus();
    event.preventDefault();
  });

  function show(position) {
    if (position === shown) return;
    shown = position;
    if (position === null) {
      title.textContent = "One token";
      facts.textContent = "";
      others.replaceChildren();
      aid.textContent = "Click a token, or walk with the arrow keys, to see what else was likely in its place.";
      return;
    }
    title.replaceChildren("The token ", element("span", { class: "gl-quote" }, data.quoted[position]));
    const entropy = data.entropy(position);
    const unsure = entropy === null ? "" : ` Entropy ${entropy.toFixed(2)} nats.`;
    facts.textContent = `Position ${position}. ${sampledWords(data, position)}${unsure}`;
    const likeliest = data.alternatives(position);
    others.replaceChildren(...likeliest.map((other, choice) => drawOther(other, choice, position)));
    aid.textContent = likeliest.length ? aidOf() : "What else was likely here is not known.";
  }

  function drawOther({ text, probability }, choice, position) {
    const taken = text === data.quoted[position];
    const bar = element("i");
    bar.style.setProperty("--gl-share", probability);
    const parts = [element("span", { class: "gl-bar-text" }, text), bar, element("span", {}, chanceWords(probability))];
    if (onTake === null || taken) {
      return element("div", { class: `gl-bar${taken ? " gl-right" : ""}` }, ...parts);
    }
    const label = `Branch with ${text} here, probability ${chanceWords(probability)}`;
    const button = element("button", { class: "gl-bar gl-take", "aria-label": label }, ...parts);
    button.addEventListener("click", () => onTake(position, choice));
    return button;
  }

  function aidOf() {
    if (onTake === null) return "The likeliest tokens here; ◂ marks the one that stands there.";
    return "Click another token to branch: the thought goes on from there as if it had been said. Enter comes here from the text.";
  }

  return { root, show, enter: () => others.querySelector("button")?.focus() };
}

function chanceWords(probability) {
  return probability < 0.0005 ? "< 0.1 %" : percent(probability);
}
