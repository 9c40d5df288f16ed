import { element } from "./dom.js";

/* The chart of an exported page: the figure that the notebook shows, redrawn for another expert.

   drawChart(root, exported, model), with what ExpertChart.exported() gives. */

export function drawChart(root, { title, aid, figure, changes }, model) {
  const chart = element("div", { class: "gl-chart" });
  const missing = element("p", { class: "gl-aid", hidden: true }, MISSING);
  const words = element("p", { class: "gl-aid" }, aid);
  root.append(element("header", { class: "gl-heading" }, element("h4", {}, title), words), missing, chart);
  Plotly.newPlot(chart, figure.data, figure.layout, { responsive: true, displaylogo: false, displayModeBar: false });

  const redraw = () => {
    const rows = changes[String(model.get("expert"))];
    missing.hidden = rows !== undefined;
    chart.hidden = rows === undefined;
    if (!rows) return;
    const each = (read) => rows.map(read);
    Plotly.restyle(chart, {
      x: each(({ x }) => x),
      y: each(({ y }) => y),
      customdata: each(({ customdata }) => customdata),
      "marker.color": each(({ marker }) => marker.color),
    });
  };
  model.on("change:expert", redraw);
  redraw();
}

const MISSING = "This file holds the chart of another layer alone; a notebook shows all.";
