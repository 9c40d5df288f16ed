import { count, element } from "./dom.js";

/* A tree of branches, a row each: to the left where in the reply it leaves its parent and what it is made of, to the
   right how it came about and what it answers. A click on a row picks it; arrow keys walk, Enter picks.

   branchTree({ onPick(number) }) returns { root, show(branches, chosen) }: `branches` as tree_data in thought_data.py
   gives them, `chosen` the number of the one whose text is shown. */

const ROW_HEIGHT = 26;
let trees = 0;

export function branchTree({ onPick }) {
  const name = `gl-tree-${trees++}`;
  const title = element("h4", {}, "Branches of the thought");
  const aid = element("p", { class: "gl-aid" });
  const end = element("span");
  const axis = element("span", { class: "gl-track-axis gl-axis" }, element("span", {}, "reply begins"), end);
  const heads = ["answer", "how it came about"].map((words) => element("span", { class: "gl-axis" }, words));
  const head = element("div", { class: "gl-branch-head", "aria-hidden": "true" }, element("span"), axis, ...heads);
  const list = element("div", { role: "presentation", class: "gl-branch-rows" });
  const tree = element(
    "div",
    { class: "gl-branches", role: "tree", tabindex: 0, "aria-label": "Branches", "data-lm-suppress-shortcuts": "true" },
    list,
  );
  const facts = element("p", { class: "gl-readout", "aria-live": "polite" });
  const root = element("section", { class: "gl-pane gl-tree-pane" }, title, aid, treeLegend(), head, tree, facts);
  let branches = [];
  let rowOf = new Map();
  let drawn = [];
  let chosen = null;
  let cursor = null;

  tree.addEventListener("click", (event) => {
    const row = event.target.closest(".gl-branch");
    if (row === null) return;
    tree.focus({ preventScroll: true });
    onPick(branches[drawn.indexOf(row)].number);
  });
  tree.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !branches.length) return;
    if (event.key === "Enter") onPick(cursor);
    else if (!walk(event.key)) return;
    event.preventDefault();
    event.stopPropagation();
  });

  function show(next, number) {
    if (next !== branches) draw(next);
    if (chosen !== number || !rowOf.has(cursor)) cursor = number;
    chosen = number;
    dress();
  }

  function draw(next) {
    branches = next;
    rowOf = new Map(branches.map(({ number }, row) => [number, row]));
    const longest = Math.max(1, ...branches.map(({ length }) => length));
    end.textContent = count(longest, "token");
    aid.textContent = branches.length
      ? "A row is a branch; its line begins where it leaves the one that it was made from. Click a row to read it, or walk " +
        "with the arrow keys and press Enter."
      : "There is no thought yet.";
    drawn = branches.map((branch, row) => drawBranch(branch, row, longest));
    list.replaceChildren(...drawn);
  }

  function drawBranch(branch, row, longest) {
    const { number, level, parent, origin, sound } = branch;
    const problem = sound ? [] : [element("b", { class: "gl-problem" }, "not in harmony's form ")];
    const made = element(
      "div",
      { class: "gl-branch", role: "treeitem", id: `${name}-${number}`, "aria-level": level },
      element("b", { class: "gl-branch-number" }, String(number)),
      drawTrack(branch, row - (rowOf.get(parent) ?? row), longest),
      drawAnswer(branch),
      element("span", { class: "gl-origin", title: origin }, ...problem, origin),
    );
    return made;
  }

  function drawTrack({ fork, stretches, put }, rowsBelow, longest) {
    const share = (tokens) => `${(100 * tokens) / longest}%`;
    const bar = (start, stop, attributes) => {
      const made = element("i", attributes);
      made.style.left = share(start);
      made.style.width = share(stop - start);
      return made;
    };
    const stem = element("i", { class: "gl-stem" });
    stem.style.left = share(fork);
    stem.style.height = `${rowsBelow * ROW_HEIGHT}px`;
    return element(
      "span",
      { class: "gl-track", "aria-hidden": "true" },
      ...(rowsBelow ? [stem] : []),
      ...stretches.map(([start, stop, kind]) => bar(start, stop, { class: "gl-stretch", "data-kind": kind })),
      ...put.map(([start, stop]) => bar(start, stop, { class: "gl-put" })),
    );
  }

  function dress() {
    branches.forEach(({ number }, row) => {
      drawn[row].classList.toggle("gl-chosen", number === chosen);
      drawn[row].classList.toggle("gl-cursor", number === cursor);
      drawn[row].setAttribute("aria-selected", String(number === chosen));
    });
    const row = rowOf.get(cursor);
    if (row === undefined) return tree.removeAttribute("aria-activedescendant");
    tree.setAttribute("aria-activedescendant", drawn[row].id);
    facts.textContent = factsOf(branches[rowOf.get(chosen) ?? row]);
    const [top, bottom] = [row * ROW_HEIGHT, (row + 1) * ROW_HEIGHT];
    if (top < tree.scrollTop) tree.scrollTop = top;
    else if (bottom > tree.scrollTop + tree.clientHeight) tree.scrollTop = bottom - tree.clientHeight;
  }

  function walk(key) {
    const row = rowOf.get(cursor) ?? 0;
    const next = {
      ArrowDown: Math.min(row + 1, branches.length - 1),
      ArrowUp: Math.max(row - 1, 0),
      Home: 0,
      End: branches.length - 1,
      ArrowLeft: rowOf.get(branches[row].parent) ?? row,
      ArrowRight: branches[row + 1]?.parent === branches[row].number ? row + 1 : row,
    }[key];
    if (next === undefined) return false;
    cursor = branches[next].number;
    dress();
    return true;
  }

  return { root, show };
}

function drawAnswer({ answer, sameAnswer }) {
  if (!answer) return element("span", { class: "gl-answer gl-aid" }, "none");
  const sign = { true: "= ", false: "≠ ", null: "" }[sameAnswer];
  const words = element("span", { class: "gl-answer", title: answer }, `${sign}${answer}`);
  words.classList.toggle("gl-differs", sameAnswer === false);
  return words;
}

function factsOf({ number, parent, fork, origin, status }) {
  const from = parent === null ? "" : ` It was made from branch ${parent} and differs from token ${fork} of the reply on.`;
  return `Branch ${number}: ${origin}.${from} It ${status}.`;
}

function treeLegend() {
  const kinds = { analysis: "analysis: raw thought, not meant for end users", final: "final: the answer" };
  return element(
    "div",
    { class: "gl-legend", "aria-label": "Legend" },
    ...Object.entries(kinds).map(([kind, words]) => element("span", {}, element("i", { "data-kind": kind }), words)),
    element("span", {}, element("i", { class: "gl-put-sign" }), "put in, or kept, by an edit"),
    element("span", {}, "= ≠ the first branch's answer"),
  );
}
