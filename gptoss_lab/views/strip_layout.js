/* Where tokens stand: broken into rows of known height, so that only the rows in view need be drawn.

   layOut(conversation, member, measure, room) returns
     rows: [{ top, height, block, title, positions, last }], a message's title row and then its lines of tokens; titles
       carry no positions, `last` marks a message's last row
     height: of all rows together, in pixels
     order: the positions on show; placeOf [pos]: where in `order` a position stands, or -1
     rowOf [pos]: number of its row, or -1; leftOf [pos]: pixels from the row's left edge
   `member` says which positions are on show, `room` how wide a line may be, and `measure` how wide things are:
   token(position), mark(words) that stand before a token, title(block) with its note, which takes two lines where one is
   too short. */

const TITLE_HEIGHT = 26;
const SECOND_TITLE_LINE = 18;
const LINE_HEIGHT = 24;
const FOOT = 8;

export function layOut(conversation, member, measure, room) {
  const { nTokens, marks, blocks, breaks } = conversation;
  const rows = [];
  const order = [];
  const placeOf = new Int32Array(nTokens).fill(-1);
  const rowOf = new Int32Array(nTokens).fill(-1);
  const leftOf = new Float32Array(nTokens);
  let top = 0;

  const addRow = (block, title, height) => {
    const row = { top, height, block, title, positions: [], last: false };
    rows.push(row);
    top += height;
    return row;
  };

  blocks.forEach((block, number) => {
    let line = null;
    let left = 0;
    for (let position = block.start; position < block.end; position++) {
      if (!member[position]) continue;
      const mark = marks.has(position) ? measure.mark(marks.get(position)) : 0;
      const width = Math.min(measure.token(position), room);
      if (line === null) addRow(number, true, TITLE_HEIGHT + (measure.title(block) > room ? SECOND_TITLE_LINE : 0));
      if (line === null || (left > 0 && left + mark + width > room)) {
        line = addRow(number, false, LINE_HEIGHT);
        left = 0;
      }
      placeOf[position] = order.push(position) - 1;
      rowOf[position] = rows.length - 1;
      leftOf[position] = left + mark;
      line.positions.push(position);
      left += mark + width;
      if (breaks.has(position)) left = room;
    }
    if (line === null) return;
    line.last = true;
    line.height += FOOT;
    top += FOOT;
  });
  return { rows, height: top, order, placeOf, rowOf, leftOf };
}

/* The number of the last row that begins at or above a height. */
export function rowAt(rows, height) {
  let [low, high] = [0, rows.length - 1];
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if (rows[middle].top <= height) low = middle;
    else high = middle - 1;
  }
  return Math.max(0, low);
}

/* The position straight above (-1) or below (1): the nearest on the next row that has any. */
export function beyondRow({ rows, rowOf, leftOf }, position, direction) {
  for (let row = rowOf[position] + direction; row >= 0 && row < rows.length; row += direction) {
    const { positions } = rows[row];
    if (!positions.length) continue;
    const distance = (each) => Math.abs(leftOf[each] - leftOf[position]);
    return positions.reduce((best, each) => (distance(each) < distance(best) ? each : best));
  }
  return position;
}
