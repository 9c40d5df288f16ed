import { element } from "./dom.js";
import { loadLibrary, pageHeading, pageState } from "./page.js";

/* One chart as a page of its own. */

const { heading, figure } = pageState();
const chart = element("div", { class: "gl-chart" });
document.getElementById("view").append(pageHeading(heading), element("div", { class: "gptoss gl-load" }, chart));
loadLibrary().then(() => {
  Plotly.newPlot(chart, figure.data, figure.layout, { responsive: true, displaylogo: false, displayModeBar: false });
});
