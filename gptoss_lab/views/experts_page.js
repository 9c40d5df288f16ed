import { element } from "./dom.js";
import { drawChart } from "./experts_chart.js";
import { render } from "./experts_map.js";
import { menus } from "./menus.js";
import { loadLibrary, pageHeading, pageModel, pageState } from "./page.js";

/* The experts view as a page of its own: what ipywidgets and a kernel are in a notebook, menus and lists are here. */

const { heading, menus: wanted, drawn, promotions, ...state } = pageState();
const promotedBy = (expert) => {
  if (!promotions.length) return {};
  return promotions.find((each) => String(each.expert) === String(expert)) ?? null;
};
const model = pageModel({ ...state, promoted: promotedBy(state.expert) });
model.on("change:expert", () => model.set("promoted", promotedBy(model.get("expert"))));

const map = element("div");
const chart = element("div", { class: "gptoss gl-load" });
document.getElementById("view").append(pageHeading(heading), menus(model, wanted), map, chart);
render({ model, el: map });
loadLibrary().then(() => drawChart(chart, drawn, model));
