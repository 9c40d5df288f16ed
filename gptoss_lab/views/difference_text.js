import { drawDifference } from "./difference_columns.js";
import { element } from "./dom.js";

/* Two branches side by side. Reads `data`. */

export function render({ model, el }) {
  const root = element("div", { class: "gptoss gl-difference" });
  const draw = () => root.replaceChildren(...drawDifference(model.get("data")));
  el.append(root);
  model.on("change:data", draw);
  draw();
  return () => model.off("change:data", draw);
}

export default { render };
