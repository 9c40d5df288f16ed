import { render } from "./compare_map.js";
import { element } from "./dom.js";
import { pageHeading, pageModel, pageState } from "./page.js";
import { stripControls } from "./strip_controls.js";

/* The comparing view as a page of its own. */

const { heading, controls, ...state } = pageState();
const model = pageModel(state);
const map = element("div");
document.getElementById("view").append(pageHeading(heading), stripControls(model, controls), map);
render({ model, el: map });
