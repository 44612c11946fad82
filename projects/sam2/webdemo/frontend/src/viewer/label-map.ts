// For each pixel of a frame the topmost object, as a small number (slot): what the
// renderers draw and what a click finds. Any number of objects takes one map.
import { forEachRun, paint } from '../rle';

export interface LabelledMask {
  readonly object: number;
  readonly counts: Uint8Array;
}

export class LabelMap {
  /** (width, height), column-major as the codes: slot of the topmost object, 0 for none. */
  labels: Uint8Array | Uint16Array = new Uint8Array();
  height = 0;
  width = 0;
  /** Object of each slot; slot 0 is the background. */
  slots: number[] = [NaN];
  private readonly slotOf = new Map<number, number>();

  /** Decodes masks into the map, the last one on top. */
  build(height: number, width: number, masks: readonly LabelledMask[]): void {
    // One slot is kept for an object that is just being drawn.
    const Labels = masks.length < 254 ? Uint8Array : Uint16Array;
    if (this.labels.length !== height * width || !(this.labels instanceof Labels)) {
      this.labels = new Labels(height * width);
    } else {
      this.labels.fill(0);
    }
    this.height = height;
    this.width = width;
    this.slots = [NaN];
    this.slotOf.clear();
    for (const { object, counts } of masks) paint(counts, this.labels, this.addSlot(object));
  }

  addSlot(object: number): number {
    const known = this.slotOf.get(object);
    if (known !== undefined) return known;
    const slot = this.slots.push(object) - 1;
    this.slotOf.set(object, slot);
    return slot;
  }

  /** The topmost object at a pixel, or null. */
  objectAt(x: number, y: number): number | null {
    const column = Math.round(x);
    const row = Math.round(y);
    if (column < 0 || row < 0 || column >= this.width || row >= this.height) return null;
    const slot = this.labels[column * this.height + row]!;
    return slot ? this.slots[slot]! : null;
  }

  /** A hash of what is decoded (FNV-1a over objects), by which tests compare pages. */
  hash(): string {
    let hash = 0x811c9dc5;
    for (const slot of this.labels) {
      hash = Math.imul(hash ^ (slot ? this.slots[slot]! : 0), 0x01000193);
    }
    return (hash >>> 0).toString(16).padStart(8, '0');
  }
}

/** Whether a code covers a pixel (without decoding it). */
export function covers(counts: Uint8Array, height: number, x: number, y: number): boolean {
  const pixel = Math.round(x) * height + Math.round(y);
  let inside = false;
  forEachRun(counts, (start, stop) => {
    if (start <= pixel && pixel < stop) inside = true;
  });
  return inside;
}
