import { element } from "./dom.js";
import { drawCharts } from "./experts_charts.js";
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
const charts = element("div", { class: "gptoss gl-load" });
document.getElementById("view").append(pageHeading(heading), menus(model, wanted), map, charts);
render({ model, el: map });
loadLibrary().then(() => drawCharts(charts, drawn, model));
