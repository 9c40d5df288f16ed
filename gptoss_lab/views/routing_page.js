import { element } from "./dom.js";
import { drawLoad } from "./load_chart.js";
import { loadLibrary, pageHeading, pageModel, pageState } from "./page.js";
import { render } from "./routing_map.js";
import { stripControls } from "./strip_controls.js";

/* The routing view as a page of its own. */

const { heading, controls, load, ...state } = pageState();
const model = pageModel(state);
const map = element("div");
const chart = element("div", { class: "gptoss gl-load" });
document.getElementById("view").append(pageHeading(heading), stripControls(model, controls), map, chart);

render({ model, el: map });
loadLibrary().then(() => drawLoad(chart, load));
