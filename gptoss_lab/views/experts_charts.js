import { element } from "./dom.js";

/* The charts of an exported page: the figures that the notebook shows, redrawn for another expert.

   drawCharts(root, exported, model), with what ExpertCharts.exported() gives. */

export function drawCharts(root, { charts, changes }, model) {
  const missing = element("p", { class: "gl-aid", hidden: true }, "This file holds the charts of another layer alone; a notebook shows all.");
  const drawn = charts.map(({ title, aid, figure }) => {
    const chart = element("div", { class: "gl-chart" });
    const heading = element("header", { class: "gl-heading" }, element("h4", {}, title), element("p", { class: "gl-aid" }, aid));
    return { chart, figure, section: element("section", {}, heading, chart) };
  });
  const row = element("div", { class: "gl-chart-row" }, ...drawn.map(({ section }) => section));
  root.append(missing, row);
  for (const { chart, figure } of drawn) {
    Plotly.newPlot(chart, figure.data, figure.layout, { responsive: true, displaylogo: false, displayModeBar: false });
  }

  const redraw = () => {
    const wanted = changes[String(model.get("expert"))];
    missing.hidden = wanted !== undefined;
    row.hidden = wanted === undefined;
    if (!wanted) return;
    drawn.forEach(({ chart }, number) => {
      const { marker, ...each } = wanted[number];
      const listed = Object.entries({ ...each, "marker.color": marker.color }).map(([name, value]) => [name, [value]]);
      Plotly.restyle(chart, Object.fromEntries(listed));
    });
  };
  model.on("change:expert", redraw);
  redraw();
}
