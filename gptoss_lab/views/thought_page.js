import { element } from "./dom.js";
import { pageHeading, pageModel, pageState } from "./page.js";
import { stripControls } from "./strip_controls.js";
import { render } from "./thought_map.js";
import { storedBranch } from "./thought_store.js";

/* The thought view as a page of its own, in which branches can be read and none be made. */

const { heading, controls, store, ...state } = pageState();
const dataOf = (number) => (number === null ? { nTokens: 0, quantities: [] } : storedBranch(store, number));
const model = pageModel({ ...state, data: dataOf(state.branch) });
model.on("change:branch", () => {
  model.set("pinned", null);
  model.set("selection", null);
  model.set("data", dataOf(model.get("branch")));
});
const view = element("div");
document.getElementById("view").append(pageHeading(heading), stripControls(model, controls), view);
render({ model, el: view });
