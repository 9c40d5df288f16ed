import { element } from "./dom.js";

/* A view in its host: a notebook's widget, or an exported page (see page.js).

   hostView({ model, el }, name, traits, draw) makes an element of class `name` and calls draw(root, set), again whenever
   `data` changes. It returns what brings the view to a state, ({ trait: value, ... }) => void, which is called whenever
   one of `traits` changes. A gesture calls set(trait, value) and does nothing else; what is drawn follows from that. */

export function hostView({ model, el }, name, traits, draw) {
  const root = element("div", { class: `gptoss ${name}` });
  el.append(root);
  let follow = null;

  const set = (trait, value) => {
    model.set(trait, value);
    model.save_changes();
  };
  const update = () => follow(Object.fromEntries(traits.map((trait) => [trait, model.get(trait)])));
  const start = () => {
    follow = draw(root, set);
    update();
  };
  const reactions = { data: start, ...Object.fromEntries(traits.map((trait) => [trait, update])) };
  for (const [trait, react] of Object.entries(reactions)) model.on(`change:${trait}`, react);
  start();
  return () => {
    for (const [trait, react] of Object.entries(reactions)) model.off(`change:${trait}`, react);
  };
}
