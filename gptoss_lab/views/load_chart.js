import { choice } from "./choice.js";
import { element } from "./dom.js";

/* The chart of an exported page: the figure that the notebook shows, redrawn for another layer or measure.

   drawLoad(root, exported), with what LoadChart.exported() gives: heights["layer|measure"] is [channel][expert]. */

export function drawLoad(root, { title, figure, layers, measures, heights, changes, aids }) {
  const chart = element("div", { class: "gl-chart" });
  const layer = choice("Layer", layers);
  const measure = choice("Measure", measures);
  const aid = element("p", { class: "gl-aid" });
  root.append(
    element("header", { class: "gl-heading" }, element("h4", {}, title), aid),
    element("div", { class: "gl-controls" }, layer.label, measure.label),
    chart,
  );
  Plotly.newPlot(chart, figure.data, figure.layout, { responsive: true, displaylogo: false, displayModeBar: false });

  const redraw = () => {
    const key = `${layer.select.value}|${measure.select.value}`;
    aid.textContent = aids[key];
    Plotly.update(chart, { y: heights[key] }, changes[key]);
  };
  layer.select.addEventListener("change", redraw);
  measure.select.addEventListener("change", redraw);
  redraw();
}
