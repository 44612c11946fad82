// COCO's compressed run lengths: runs of 0 and 1 in turn, in column-major order (down the
// first column, then the second, …); each is a base-32 number of 5 bits and one for
// "continued", and from the fourth run on the difference to the run two before it.
//
// The page keeps masks column-major as well, so that a run is one `fill`; the label
// texture is the transposed frame.

const FIRST_CHARACTER = 48;

/** Calls `onRun` with each run of ones as [start, stop) of the column-major mask. */
export function forEachRun(
  counts: Uint8Array,
  onRun: (start: number, stop: number) => void,
): void {
  let position = 0;
  let previous = 0;
  let beforePrevious = 0;
  let index = 0;
  let i = 0;
  while (i < counts.length) {
    let value = 0;
    let shift = 0;
    let chunk: number;
    do {
      chunk = counts[i++]! - FIRST_CHARACTER;
      // Multiplication, since bits beyond 31 are lost in a shift.
      value += (chunk & 0x1f) * 2 ** shift;
      shift += 5;
    } while (chunk & 0x20 && i < counts.length);
    if (chunk & 0x10) value -= 2 ** shift;
    if (index > 2) value += beforePrevious;
    if (index % 2 && value > 0) onRun(position, position + value);
    position += value;
    beforePrevious = previous;
    previous = value;
    index += 1;
  }
}

/** Writes `label` where a mask is 1; the others keep their label. */
export function paint(counts: Uint8Array, labels: Uint8Array | Uint16Array, label: number): void {
  forEachRun(counts, (start, stop) => labels.fill(label, start, stop));
}

/** The mask of a code: column-major, 0 or 1. */
export function decode(counts: Uint8Array, height: number, width: number): Uint8Array {
  const mask = new Uint8Array(height * width);
  paint(counts, mask, 1);
  return mask;
}

/** COCO's code of a column-major mask. */
export function encode(mask: Uint8Array): string {
  const runs: number[] = [];
  let value = 0;
  let start = 0;
  while (start < mask.length || !runs.length) {
    const next = mask.indexOf(1 - value, start);
    const stop = next < 0 ? mask.length : next;
    runs.push(stop - start);
    value = 1 - value;
    start = stop;
  }
  let text = '';
  runs.forEach((run, index) => {
    let rest = index > 2 ? run - runs[index - 2]! : run;
    for (;;) {
      const bits = rest & 0x1f;
      rest >>= 5;
      const more = bits & 0x10 ? rest !== -1 : rest !== 0;
      text += String.fromCharCode((more ? bits | 0x20 : bits) + FIRST_CHARACTER);
      if (!more) break;
    }
  });
  return text;
}

export function toText(counts: Uint8Array): string {
  return new TextDecoder('ascii').decode(counts);
}
