import { choice } from "./choice.js";
import { element } from "./dom.js";
import { drawLoad } from "./load_chart.js";
import { loadLibrary, pageHeading, pageModel, pageState } from "./page.js";
import { render } from "./routing_map.js";

/* The routing view as a page of its own: what ipywidgets are in a notebook, plain menus are here. */

const { heading, load, ...state } = pageState();
const model = pageModel(state);
const controls = element("div", { class: "gptoss gl-controls" });
const map = element("div");
const chart = element("div", { class: "gptoss gl-load" });
document.getElementById("view").append(pageHeading(heading), controls, map, chart);

const shown = choice("Show", state.data.groups.map(({ title, name }) => [title, name]));
shown.select.value = state.shown;
shown.select.addEventListener("change", () => model.set("shown", shown.select.value));
controls.append(shown.label);

render({ model, el: map });
loadLibrary().then(() => drawLoad(chart, load));
