/* Arcs over a token strip, from one token to others.

   arcs(strip) returns show(from | null, ends): `ends` is [[position, share], ...], strongest first. The tokens at the
   ends take the colour of their share, and the others lose that of their channel. */

const NAMESPACE = "http://www.w3.org/2000/svg";

export function arcs(strip) {
  const drawing = document.createElementNS(NAMESPACE, "svg");
  drawing.setAttribute("class", "gl-arcs");
  drawing.setAttribute("aria-hidden", "true");
  strip.root.append(drawing);

  return function show(from, ends) {
    const weights = [];
    ends.forEach(([position, share]) => (weights[position] = Math.sqrt(share)));
    strip.weigh(from === null ? null : weights);
    const seen = ends.filter(([position]) => position !== from && strip.place(position) !== null);
    drawing.replaceChildren(...(from === null || strip.place(from) === null ? [] : drawArcs(strip, from, seen)));
  };
}

function drawArcs(strip, from, ends) {
  const above = (position) => {
    const { left, top, width } = strip.place(position);
    return [left + width / 2, top + 2];
  };
  const start = above(from);
  return ends.map(([position, share]) => {
    const path = document.createElementNS(NAMESPACE, "path");
    path.setAttribute("d", bow(start, above(position)));
    path.style.setProperty("--gl-share", share.toFixed(4));
    return path;
  });
}

// Along a line it bows upwards, between lines it leans aside, so that arcs to neighbours can be told apart.
function bow([x0, y0], [x1, y1]) {
  const across = Math.abs(x1 - x0);
  const down = Math.abs(y1 - y0);
  const lift = Math.min(46, 10 + across * 0.12);
  const aside = Math.min(40, down * 0.25);
  const middle = [(x0 + x1) / 2 + (x1 >= x0 ? aside : -aside), Math.max(2, Math.min(y0, y1) - lift + down * 0.35)];
  return `M${x0.toFixed(1)} ${y0.toFixed(1)} Q${middle[0].toFixed(1)} ${middle[1].toFixed(1)} ${x1.toFixed(1)} ${y1.toFixed(1)}`;
}
