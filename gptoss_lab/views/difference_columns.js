import { element, percent } from "./dom.js";

/* Two branches side by side: what they say, with what differs marked, and how likely each answer is in both.

   drawDifference(data) returns elements; `data` is as difference_data.py gives it. */

export function drawDifference({ names, facts, parting, sides, answers }) {
  const columns = sides.map((messages, side) =>
    element(
      "section",
      { class: "gl-pane gl-side" },
      element("h4", {}, names[side]),
      element("p", { class: "gl-aid" }, facts[side]),
      element("div", { class: "gl-conversation" }, ...messages.map(drawSaid)),
    ),
  );
  return [
    element("p", { class: "gl-readout" }, parting),
    element("div", { class: "gl-legend" }, element("span", {}, element("mark", {}, "marked"), "is in this branch alone")),
    element("div", { class: "gl-sides" }, ...columns),
    ...(answers === null ? [] : [drawAnswers(names, answers)]),
  ];
}

function drawSaid({ kind, title, note, parts }) {
  const drawn = parts.flatMap(([text, differs, parting]) => [
    ...(parting ? [element("span", { class: "gl-begin" }, "they part ▸")] : []),
    differs ? element("mark", {}, text) : text,
  ]);
  const head = element("div", { class: "gl-head-line" }, element("b", {}, title), element("span", {}, note));
  const text = element("pre", { class: "gl-text", dir: "auto" }, ...drawn);
  return element("div", { class: "gl-message", "data-kind": kind }, head, text);
}

function drawAnswers(names, answers) {
  const heads = ["answer", ...names].map((name) => element("th", { scope: "col" }, name));
  const chance = (share) => {
    const bar = element("i");
    bar.style.setProperty("--gl-share", share);
    return element("td", { class: "gl-answer-chance" }, bar, element("span", {}, share < 0.0005 ? "< 0.1 %" : percent(share)));
  };
  const rows = answers.map(([answer, ...shares]) =>
    element("tr", {}, element("th", { scope: "row" }, element("span", { class: "gl-quote" }, answer)), ...shares.map(chance)),
  );
  const head = element("thead", {}, element("tr", {}, ...heads));
  return element(
    "section",
    { class: "gl-pane" },
    element("h4", {}, "How likely each answer is"),
    element("p", { class: "gl-aid" }, "The probability of the answer's very words, where the answer begins, at temperature 1."),
    element("table", { class: "gl-answers" }, head, element("tbody", {}, ...rows)),
  );
}
