import { render } from "./attention_map.js";
import { choice } from "./choice.js";
import { element } from "./dom.js";
import { pageHeading, pageModel, pageState } from "./page.js";

/* The attention view as a page of its own: what ipywidgets and a kernel are in a notebook, menus and a list of heads are
   here. */

const { heading, heads, directions, ...state } = pageState();
const headCalled = (name) => heads.find(({ head }) => String(head) === String(name)) ?? null;
const model = pageModel({ ...state, large: headCalled(state.head) });
model.on("change:head", () => model.set("large", headCalled(model.get("head"))));

const controls = element("div", { class: "gptoss gl-controls" });
const map = element("div");
document.getElementById("view").append(pageHeading(heading), controls, map);

const direction = choice("Arcs to", directions);
direction.select.value = state.direction;
direction.select.addEventListener("change", () => model.set("direction", direction.select.value));
controls.append(direction.label);

render({ model, el: map });
