import { element } from "./dom.js";
import { statusLine } from "./status_line.js";

/* A reply as it is written. Reads `blocks` ([{ kind, title, note, text }]), `status` and `running`. */

export function render({ model, el }) {
  const messages = element("div", { class: "gl-conversation" });
  const status = statusLine(model);
  el.append(element("div", { class: "gptoss" }, messages, status.root));
  const drawn = [];

  function drawBlocks() {
    const blocks = model.get("blocks");
    while (drawn.length > blocks.length) drawn.pop().root.remove();
    blocks.forEach((block, number) => {
      if (number === drawn.length) {
        drawn.push(drawMessage());
        messages.append(drawn[number].root);
      }
      drawn[number].show(block);
    });
  }
  model.on("change:blocks", drawBlocks);
  drawBlocks();
  return () => {
    model.off("change:blocks", drawBlocks);
    status.stop();
  };
}

export default { render };

function drawMessage() {
  const title = element("b");
  const note = element("span");
  const written = document.createTextNode("");
  const text = element("pre", { class: "gl-text", dir: "auto" }, written);
  const root = element("div", { class: "gl-message" }, element("div", { class: "gl-head-line" }, title, note), text);

  function show(block) {
    root.dataset.kind = block.kind;
    title.textContent = block.title;
    note.textContent = block.note;
    const atEnd = text.scrollHeight - text.scrollTop - text.clientHeight < 8;
    // A text mostly grows: appending keeps the reader's selection.
    if (block.text.startsWith(written.data)) written.appendData(block.text.slice(written.data.length));
    else written.data = block.text;
    if (atEnd) text.scrollTop = text.scrollHeight;
  }
  return { root, show };
}
