import { element } from "./dom.js";

/* Many rows of one height, of which only those in view are drawn.

   rowWindow(scroller, { height, drawRow(number) }) returns { body, show(n), refresh(), reveal(number), first() }:
   `body` is to stand in `scroller`, below whatever sticks to its top; drawRow gives a new element. */

const MARGIN_ROWS = 12;

export function rowWindow(scroller, { height, drawRow }) {
  const body = element("div", { class: "gl-rows", role: "presentation" });
  const drawn = new Map();
  let count = 0;

  function draw() {
    const first = Math.max(0, Math.floor(scroller.scrollTop / height) - MARGIN_ROWS);
    const last = Math.min(count, Math.ceil((scroller.scrollTop + scroller.clientHeight) / height) + MARGIN_ROWS);
    for (const [number, row] of drawn) {
      if (number >= first && number < last) continue;
      row.remove();
      drawn.delete(number);
    }
    for (let number = first; number < last; number++) {
      if (drawn.has(number)) continue;
      const row = drawRow(number);
      row.style.top = `${number * height}px`;
      drawn.set(number, row);
      body.append(row);
    }
  }

  scroller.addEventListener("scroll", draw);
  new ResizeObserver(draw).observe(scroller);

  /* Draws all anew: what rows show has changed. */
  function refresh() {
    drawn.forEach((row) => row.remove());
    drawn.clear();
    draw();
  }

  return {
    body,
    refresh,
    show: (n) => {
      count = n;
      body.style.height = `${n * height}px`;
      refresh();
    },
    /* The element of a row, if it is drawn. */
    row: (number) => drawn.get(number),
    /* Scrolls until a row is in view; `head` pixels at the top are covered. */
    reveal: (number, head) => {
      const room = scroller.clientHeight - head;
      if (number * height < scroller.scrollTop) scroller.scrollTop = number * height;
      else if ((number + 1) * height > scroller.scrollTop + room) scroller.scrollTop = (number + 1) * height - room;
      draw();
    },
  };
}
