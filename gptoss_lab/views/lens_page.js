import { element } from "./dom.js";
import { render } from "./lens_grid.js";
import { menus } from "./menus.js";
import { pageHeading, pageModel, pageState } from "./page.js";

/* The lens view as a page of its own: what ipywidgets are in a notebook, plain menus are here. */

const { heading, menus: wanted, ...state } = pageState();
const model = pageModel(state);
const grid = element("div");
document.getElementById("view").append(pageHeading(heading), menus(model, wanted), grid);
render({ model, el: grid });
