import { count, percent } from "./dom.js";

/* What the attention view says in words about a head (see attention_data.js) and the tokens of its data. */

export function headWords(data, name) {
  const reach = data.reach(name);
  const sight = reach === "sees all" ? "sees all tokens so far" : reach.startsWith("window") ? windowWords(reach) : `reads ${reach}`;
  return `Layer ${name[0]}, head ${name[1]}: ${sight}; ${percent(data.sinkMean(name))} of its attention goes to the sink.`;
}

export function pixelWords(data, head, [first, last, firstKey, lastKey]) {
  const reader = tokens(data, first, last);
  if (firstKey < 0) return `${reader}: ${percent(head.sink(first))} to the sink.`;
  if (firstKey > last) return `${reader} cannot see ${tokens(data, firstKey, lastKey)}: it comes later.`;
  const verb = first === last ? "reads" : "read";
  if (first === last && firstKey === lastKey) {
    const share = head.share(first, firstKey);
    const words = share === null ? atMost(head.least(first)) : percent(share);
    return `${reader} ${verb} ${tokens(data, firstKey, lastKey)}: ${words}.`;
  }
  const most = head.picture[pixel(data, head, first) * head.side + pixel(data, head, firstKey)] / 255;
  return `${reader} ${verb} ${tokens(data, firstKey, lastKey)}: at most ${percent(most * most)} each.`;
}

export function arcWords(data, head, position, direction) {
  if (position === null) {
    return "Point at a token to see what it reads. Click it, or walk with the arrow keys, to keep it.";
  }
  if (direction === "read by") {
    const found = head.readers(position).length;
    return `${count(found, "token")} read it among what they read most. Thicker arcs: more of their attention.`;
  }
  return "Thicker arcs: more of its attention. What it reads goes into what the model says next. Esc lets the token go.";
}

function windowWords(reach) {
  return `sees the last ${reach.split(" ")[1]} tokens`;
}

function tokens(data, first, last) {
  if (first === last) return `“${data.quoted[first]}” (${first})`;
  return `tokens ${first} to ${last}`;
}

function atMost(share) {
  return share > 0 ? `less than ${percent(Math.max(share, 0.001))}` : "0 %";
}

function pixel(data, head, position) {
  return Math.ceil(((position + 1) * head.side) / data.nTokens) - 1;
}
