/* Arcs over a token strip, from one token to others.

   arcs(strip, nTokens) returns show(from | null, ends): `ends` is [[position, share], ...], strongest first. The tokens
   at the ends take the colour of their share, and the others lose that of their channel. */

const NAMESPACE = "http://www.w3.org/2000/svg";

export function arcs(strip, nTokens) {
  const drawing = document.createElementNS(NAMESPACE, "svg");
  drawing.setAttribute("class", "gl-arcs");
  drawing.setAttribute("aria-hidden", "true");
  strip.root.append(drawing);

  return function show(from, ends) {
    strip.weigh(from === null ? null : strengths(nTokens, ends));
    const start = from === null ? null : above(strip, from);
    const others = start === null ? [] : ends.filter(([position]) => position !== from);
    drawing.replaceChildren(...others.flatMap(([position, share]) => drawArc(start, above(strip, position), share)));
  };
}

// As roots, so that small shares can be told apart, and told from none.
function strengths(nTokens, ends) {
  const weights = new Float32Array(nTokens);
  for (const [position, share] of ends) weights[position] = Math.max(0.001, Math.sqrt(share));
  return weights;
}

// The middle of a token's upper edge, in what the strip scrolls; null where the token is not on show.
function above(strip, position) {
  const place = strip.place(position);
  return place && [place.left + place.width / 2, place.top];
}

function drawArc(start, end, share) {
  if (end === null) return [];
  const path = document.createElementNS(NAMESPACE, "path");
  path.setAttribute("d", bow(start, end));
  path.style.setProperty("--gl-share", share.toFixed(4));
  return [path];
}

// Along a line it bows upwards, between lines it leans aside, so that arcs to neighbours can be told apart.
function bow([x0, y0], [x1, y1]) {
  const across = Math.abs(x1 - x0);
  const down = Math.abs(y1 - y0);
  const lift = Math.min(46, 10 + across * 0.12);
  const aside = Math.min(40, down * 0.25) * (x1 >= x0 ? 1 : -1);
  const middle = [(x0 + x1) / 2 + aside, Math.max(2, Math.min(y0, y1) - lift + down * 0.35)];
  return `M${rounded([x0, y0])} Q${rounded(middle)} ${rounded([x1, y1])}`;
}

function rounded(point) {
  return point.map((each) => each.toFixed(1)).join(" ");
}
