import { render } from "./attention_map.js";
import { element } from "./dom.js";
import { menus } from "./menus.js";
import { pageHeading, pageModel, pageState } from "./page.js";

/* The attention view as a page of its own: what ipywidgets and a kernel are in a notebook, menus and a list of heads are
   here. */

const { heading, heads, menus: wanted, ...state } = pageState();
const headCalled = (name) => heads.find(({ head }) => String(head) === String(name)) ?? null;
const model = pageModel({ ...state, large: headCalled(state.head) });
model.on("change:head", () => model.set("large", headCalled(model.get("head"))));

const map = element("div");
document.getElementById("view").append(pageHeading(heading), menus(model, wanted), map);
render({ model, el: map });
