import { element } from "./dom.js";
import { pageHeading, pageModel, pageState } from "./page.js";
import { stripControls } from "./strip_controls.js";
import { render } from "./tokens_map.js";

/* The tokens view as a page of its own. */

const { heading, controls, ...state } = pageState();
const model = pageModel(state);
const strip = element("div");
document.getElementById("view").append(pageHeading(heading), stripControls(model, controls), strip);
render({ model, el: strip });
