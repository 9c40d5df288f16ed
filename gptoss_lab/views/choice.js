import { element } from "./dom.js";

/* A menu of an exported page: options are [[text, value], ...]. */
export function choice(name, options) {
  const select = element("select", { "aria-label": name }, ...options.map(([text, value]) => element("option", { value }, text)));
  return { select, label: element("label", {}, `${name} `, select) };
}
