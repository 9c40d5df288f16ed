import { render } from "./compare_map.js";
import { drawDifference } from "./difference_columns.js";
import { element } from "./dom.js";
import { pageHeading, pageModel, pageState } from "./page.js";
import { stripControls } from "./strip_controls.js";

/* Two branches side by side as a page of its own; how they route where that is known. */

const { heading, difference, routing, ...state } = pageState();
const view = document.getElementById("view");
view.append(pageHeading(heading), element("div", { class: "gptoss gl-difference" }, ...drawDifference(difference)));
if (routing) {
  const model = pageModel(state);
  const map = element("div");
  view.append(pageHeading(routing.heading), stripControls(model, routing.controls), map);
  render({ model, el: map });
}
