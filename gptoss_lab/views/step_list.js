import { element, percent } from "./dom.js";

/* The steps of a branch: stepList(steps, { onPick(step) }) returns { root, mark(number | null) }. A click on a row, or
   Enter on its number, picks a step. */

export function stepList(steps, { onPick }) {
  const heads = { step: "step", text: "", sure: "probability", least: "least", unsure: "entropy" };
  const units = { sure: "mean over tokens", least: "of a token", unsure: "nats" };
  const head = Object.entries(heads).map(([key, words]) =>
    element("th", { scope: "col" }, words, ...(units[key] ? [element("small", {}, units[key])] : [])),
  );
  const rows = steps.map(drawStep);
  const table = element("table", { class: "gl-steps" }, element("thead", {}, element("tr", {}, ...head)));
  table.append(element("tbody", {}, ...rows));
  const frame = element("div", { class: "gl-steps-place" }, table);
  const root = element("section", { class: "gl-pane" }, element("h4", {}, "Steps"), frame);

  function drawStep(step) {
    const pick = element("button", { class: "gl-link" }, String(step.number));
    const text = element("span", { class: "gl-step-text", "data-kind": step.kind, title: step.text }, step.text);
    const given = step.sampled < 1 ? [element("span", { class: "gl-aid" }, step.sampled ? " partly put in" : " put in")] : [];
    const cells = [[pick], [text, ...given], ...[step.probability, step.least_probability].map((share) => [shareWords(share)])];
    cells.push([step.entropy === null ? "" : step.entropy.toFixed(2)]);
    const row = element("tr", {}, ...cells.map((parts) => element("td", {}, ...parts)));
    row.addEventListener("click", () => onPick(step));
    return row;
  }

  function mark(number) {
    rows.forEach((row, place) => {
      const marked = steps[place].number === number;
      row.classList.toggle("gl-chosen", marked);
      if (marked) row.setAttribute("aria-current", "true");
      else row.removeAttribute("aria-current");
      if (marked) scrollTo(row);
    });
  }

  // The list alone: scrollIntoView would move the notebook too.
  function scrollTo(row) {
    const above = row.offsetTop - table.tHead.offsetHeight;
    if (above < frame.scrollTop) frame.scrollTop = above;
    const beyond = row.offsetTop + row.offsetHeight - frame.clientHeight;
    if (beyond > frame.scrollTop) frame.scrollTop = beyond;
  }

  return { root, mark };
}

function shareWords(share) {
  return share === null ? "" : percent(share);
}
