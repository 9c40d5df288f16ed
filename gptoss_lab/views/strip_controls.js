import { choice } from "./choice.js";
import { element } from "./dom.js";

/* The controls of an exported page: what ipywidgets are in a notebook, plain menus are here.

   stripControls(model, controls) draws menus, [{ name, title, options: [[text, value]] }], each for the trait `name`. */

export function stripControls(model, controls) {
  return element("div", { class: "gptoss gl-controls" }, ...controls.map((control) => menuFor(model, control)));
}

function menuFor(model, { name, title, options }) {
  const { select, label } = choice(title, options.map(([text], number) => [text, number]));
  const follow = () => (select.value = options.findIndex(([, value]) => value === model.get(name)));
  select.addEventListener("change", () => model.set(name, options[select.value][1]));
  model.on(`change:${name}`, follow);
  follow();
  if (name === "layer") {
    const offer = () => {
      const quantity = model.get("data").quantities.find((each) => each.name === model.get("colour"));
      select.disabled = !quantity?.layered;
    };
    model.on("change:colour", offer);
    offer();
  }
  return label;
}
