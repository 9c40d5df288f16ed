import { branchTree } from "./branch_tree.js";
import { element } from "./dom.js";
import { hostView } from "./host_view.js";
import { stepList } from "./step_list.js";
import { array, readConversation } from "./strip_data.js";
import { tokenCard } from "./token_card.js";
import { PANE_STATE, tokenPane } from "./token_pane.js";

/* A tree of branches, and the text of one of them. Reads `tree`, `branch`, `live` and TokenStrip's traits. Writes
   `branch`, `pinned`, `selection`, and, where `live`, `taken`: [position, choice, how many have been taken]. */

export function render({ model, el }) {
  const set = (trait, value) => {
    model.set(trait, value);
    model.save_changes();
  };
  const tree = branchTree({ onPick: (number) => set("branch", number) });
  const showTree = () => tree.show(model.get("tree"), model.get("branch"));
  const above = element("div", { class: "gptoss gl-panes" }, tree.root);
  el.append(above);
  model.on("change:tree", showTree);
  model.on("change:branch", showTree);
  showTree();

  const take = (position, choice) => set("taken", [position, choice, (model.get("taken")?.[2] ?? 0) + 1]);
  const draw = (root, write) => drawText(root, model.get("data"), write, model.get("live") ? take : null);
  const stop = hostView({ model, el }, "gl-panes gl-thought", PANE_STATE, draw);
  return () => {
    stop();
    model.off("change:tree", showTree);
    model.off("change:branch", showTree);
  };
}

export default { render };

function drawText(root, sent, set, onTake) {
  root.replaceChildren();
  if (!sent.nTokens) return () => {};
  const data = readBranch(sent);
  const stepAt = (position) => data.steps.find(({ start, stop }) => start <= position && position < stop);
  const pane = tokenPane(root, data, set, { words: (position) => tipWords(data, position, stepAt(position)) });
  const card = tokenCard(data, { onTake });
  const steps = stepList(data.steps, {
    onPick: ({ start, stop }) => {
      set("pinned", start);
      set("selection", [start, stop]);
    },
  });
  root.append(element("div", { class: "gl-beside" }, card.root, steps.root));
  pane.strip.root.addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault();
    event.stopPropagation();
    card.enter();
  });

  return (state) => {
    pane.follow(state);
    card.show(state.pinned);
    steps.mark(state.pinned === null ? null : (stepAt(state.pinned)?.number ?? null));
  };
}

function readBranch(sent) {
  const entropies = array(Float32Array, sent.entropies);
  const given = array(Uint8Array, sent.given);
  return {
    ...readConversation(sent),
    entropy: (position) => (Number.isNaN(entropies[position]) ? null : entropies[position]),
    isGiven: (position) => given[position] === 1,
  };
}

function tipWords(data, position, step) {
  const entropy = data.entropy(position);
  const unsure = entropy === null ? [] : [`Entropy ${entropy.toFixed(2)} nats.`];
  return step ? [...unsure, `Step ${step.number}.`] : unsure;
}
