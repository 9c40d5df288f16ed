import { element } from "./dom.js";
import { statusLine } from "./status_line.js";
import { tokenCard } from "./token_card.js";
import { tokenTip } from "./token_tip.js";

/* A thought while it is written. Reads `status` and `running`; tokens come as messages of their own, each of them once
   (see live_thought.py): { first, nPrompt, tokens, message, heads }, where `first` is the number of the first token, and
   `heads` are of the messages from number `message` on. Where some are missing, all are asked for. */

export function render({ model, el }) {
  const root = element("div", { class: "gptoss gl-panes gl-thought gl-live" });
  const status = statusLine(model);
  let text = null;
  const receive = (sent) => {
    if (sent.first !== 0 && sent.first !== text?.count()) return model.send("all");
    if (sent.first === 0) {
      root.replaceChildren();
      text = sent.tokens.length ? liveText(root, sent.nPrompt) : null;
    }
    text?.add(sent);
  };
  el.append(root, element("div", { class: "gptoss" }, status.root));
  model.on("msg:custom", receive);
  if (model.get("running")) model.send("all");
  return () => {
    model.off("msg:custom", receive);
    status.stop();
  };
}

export default { render };

function liveText(root, nPrompt) {
  const data = growingConversation(nPrompt);
  const drawn = [];
  const messages = [];
  let pinned = null; // without one, the newest token is read
  const tip = tokenTip(root, data);
  const card = tokenCard(data, { onTake: null });
  const readout = card.root.querySelector("[aria-live]");
  const strip = element("div", {
    class: "gl-strip",
    tabindex: 0,
    role: "listbox",
    "aria-label": "Tokens as they come",
    "data-lm-suppress-shortcuts": "true",
  });
  const aid = element("p", { class: "gl-aid" }, "The newest token is read beside. Click one, or walk with the arrow keys, to stay with it; Esc lets it go.");
  const title = element("h4", {}, "The thought as it comes");
  const pane = element("section", { class: "gl-pane gl-strip-pane" }, title, aid, strip);
  root.append(pane, element("div", { class: "gl-beside" }, card.root), tip.root);
  listen();

  function add({ tokens, message, heads }) {
    const atEnd = strip.scrollHeight - strip.scrollTop - strip.clientHeight < 30;
    heads.forEach((head, place) => {
      messages[message + place] ??= drawMessage();
      messages[message + place].show(head);
    });
    for (const token of tokens) {
      data.add(token, messages[token[0]].title());
      messages[token[0]].body.append(drawToken(data.end() - 1, token));
    }
    if (atEnd && pinned === null) strip.scrollTop = strip.scrollHeight;
    read();
  }

  function drawMessage() {
    const name = element("b");
    const note = element("span", { class: "gl-note" });
    const body = element("div", { class: "gl-live-tokens", role: "presentation" });
    const made = element("div", { class: "gl-live-message", role: "presentation" }, element("div", {}, name, " ", note), body);
    const show = (head) => {
      made.dataset.kind = head.kind;
      name.textContent = head.title;
      note.textContent = head.note;
    };
    strip.append(made);
    return { body, show, title: () => name.textContent };
  }

  function drawToken(position, [, section, shown]) {
    const token = element(
      "span",
      {
        class: "gl-token",
        role: "option",
        id: `gl-live-${position}`,
        "data-section": ["content", "header", "control"][section],
        "data-turn": position % 2 ? "odd" : "even",
        "data-given": data.isGiven(position),
        "data-position": position,
      },
      shown,
    );
    drawn[position] = token;
    const last = section === 0 && shown.includes("↵");
    const parts = document.createDocumentFragment();
    parts.append(token, ...(last ? [element("br")] : []));
    return parts;
  }

  function read() {
    readout.setAttribute("aria-live", pinned === null ? "off" : "polite"); // nobody can listen to every token
    card.show(pinned ?? data.end() - 1);
  }

  function pin(position) {
    drawn[pinned]?.classList.remove("gl-pinned");
    pinned = position;
    drawn[pinned]?.classList.add("gl-pinned");
    if (pinned === null) strip.removeAttribute("aria-activedescendant");
    else strip.setAttribute("aria-activedescendant", drawn[pinned].id);
    read();
  }

  function listen() {
    const at = (event) => (event.target.dataset.position ? Number(event.target.dataset.position) : null);
    strip.addEventListener("pointerover", (event) => tip.show(at(event), event.target, tipLines(at(event))));
    strip.addEventListener("pointerleave", () => tip.show(null));
    strip.addEventListener("click", (event) => {
      if (at(event) !== null) pin(at(event) === pinned ? null : at(event));
    });
    strip.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const newest = data.end() - 1;
      const next = {
        ArrowLeft: Math.max((pinned ?? newest + 1) - 1, nPrompt),
        ArrowRight: Math.min((pinned ?? newest) + 1, newest),
        Home: nPrompt,
        End: newest,
        Escape: null,
      }[event.key];
      if (next === undefined) return;
      pin(next);
      event.preventDefault();
      event.stopPropagation();
    });
  }

  function tipLines(position) {
    const entropy = position === null ? null : data.entropy(position);
    return entropy === null ? [] : [`Entropy ${entropy.toFixed(2)} nats.`];
  }

  return { add, count: () => data.end() - nPrompt };
}

/* What tokenTip and tokenCard read of a conversation (see strip_data.js), for one that grows. */
function growingConversation(nPrompt) {
  const known = [];
  const data = { nPrompt, quoted: [], ids: [], sections: [], blocks: [] };
  const of = (position) => known[position - nPrompt];
  const add = (token, title) => {
    const [message, section, , quoted, id] = token;
    const position = nPrompt + known.push(token) - 1;
    Object.assign(data.quoted, { [position]: quoted });
    Object.assign(data.ids, { [position]: id });
    Object.assign(data.sections, { [position]: section });
    data.blocks[message] = { title, end: position + 1 };
  };
  return {
    ...data,
    add,
    end: () => nPrompt + known.length,
    probability: (position) => of(position)[5],
    entropy: (position) => of(position)[6],
    isGiven: (position) => of(position)[7],
    alternatives: (position) => of(position)[8].map(([text, probability]) => ({ text, probability })),
  };
}
