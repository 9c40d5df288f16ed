import { choice } from "./choice.js";
import { element } from "./dom.js";

/* The controls of an exported page, as menus: [[trait, title, [[text, value], ...]], ...]. */
export function menus(model, wanted) {
  const drawn = wanted.map(([trait, title, options]) => {
    const { select, label } = choice(title, options);
    select.value = model.get(trait);
    select.addEventListener("change", () => model.set(trait, select.value));
    model.on(`change:${trait}`, () => (select.value = model.get(trait)));
    return label;
  });
  return element("div", { class: "gptoss gl-controls" }, ...drawn);
}
