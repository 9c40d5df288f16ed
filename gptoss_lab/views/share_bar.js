import { element, percent } from "./dom.js";

/* Where all of a token's attention goes, as one bar: the sink, what it reads most, and the rest.

   shareBar() returns { root, show(sink, reads) }: reads is [[name, share], ...]; the rest is what they leave. */

export function shareBar() {
  const root = element("div", { class: "gl-shares" });

  function show(sink, reads) {
    const rest = Math.max(0, 1 - sink - reads.reduce((sum, [, share]) => sum + share, 0));
    root.replaceChildren(
      part("gl-share gl-share-sink", sink, "sink"),
      ...reads.map(([name, share]) => part("gl-share gl-weight", share, name)),
      part("gl-share gl-share-rest", rest, reads.length ? "others" : "all tokens"),
    );
  }
  return { root, show };
}

function part(name, share, words) {
  const title = `${words}: ${percent(share)}`;
  const drawn = element("span", { class: name, title }, element("b", {}, words), element("span", {}, ` ${percent(share)}`));
  drawn.style.flexGrow = share;
  drawn.style.setProperty("--gl-weight", Math.sqrt(share).toFixed(4));
  return drawn;
}
