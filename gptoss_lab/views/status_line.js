import { element } from "./dom.js";

/* How a reply that is written stands: statusLine(model) follows `status` and `running`, and returns { root, stop }. */

export function statusLine(model) {
  const root = element("div", { class: "gl-status", "aria-live": "polite" });
  const traits = ["change:status", "change:running"];
  const follow = () => {
    root.textContent = model.get("status");
    root.classList.toggle("gl-running", model.get("running"));
  };
  traits.forEach((trait) => model.on(trait, follow));
  follow();
  return { root, stop: () => traits.forEach((trait) => model.off(trait, follow)) };
}
