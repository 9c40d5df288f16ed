import { hostView } from "./host_view.js";
import { readConversation } from "./strip_data.js";
import { PANE_STATE, tokenPane } from "./token_pane.js";

/* The token strip by itself. Reads TokenStrip's traits; writes `pinned` and `selection`, and nothing else. */

export function render({ model, el }) {
  const draw = (root, set) => {
    root.replaceChildren();
    return tokenPane(root, readConversation(model.get("data")), set).follow;
  };
  return hostView({ model, el }, "gl-panes gl-tokens-alone", PANE_STATE, draw);
}

export default { render };
