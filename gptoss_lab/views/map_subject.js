import { element } from "./dom.js";
import { filterWords } from "./routing_words.js";

/* What a map of experts shows: the selected tokens, or the pinned one, or the content of all that are on show.

   subjectOf(data, state, member) returns { key, position, selected, label, title, where }: `position` is null for
   several tokens, `title` what to put into a heading, `where` [position] of 0 and 1. */

export function subjectOf(data, { pinned, selection, part, role, channel }, member) {
  const filter = { part, role, channel };
  const only = (wanted) => member.map((shown, position) => (shown && wanted(position) ? 1 : 0));
  if (selection !== null) {
    const [start, end] = selection;
    return {
      key: JSON.stringify([selection, filter]),
      position: null,
      selected: true,
      label: "the selected tokens",
      title: ["Experts of the selected tokens"],
      where: only((position) => position >= start && position < end),
    };
  }
  if (pinned !== null) {
    const where = new Uint8Array(data.nTokens);
    where[pinned] = 1;
    const token = element("span", { class: "gl-quote" }, data.quoted[pinned]);
    return { key: `${pinned}`, position: pinned, label: "this token", title: ["Experts of the token ", token], where };
  }
  const label = filterWords(data, filter);
  return {
    key: JSON.stringify(filter),
    position: null,
    label,
    title: [`Experts of ${label}`],
    where: only((position) => data.sections[position] === 0),
  };
}
