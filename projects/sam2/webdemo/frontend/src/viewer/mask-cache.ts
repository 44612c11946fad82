// The masks that the page keeps: packed run lengths by frame, least recently used out
// first. A mask that the server has replaced stays on screen until the new one arrives.
import type { MaskMessage } from '../protocol';

const MAX_BYTES = 64 * 2 ** 20;
/** Objects of JavaScript around the bytes of one mask, roughly. */
const ENTRY_OVERHEAD = 200;

interface Slot {
  message: MaskMessage;
  stale: boolean;
}

export class MaskCache {
  private readonly slots = new Map<number, Slot>();
  private bytes = 0;
  /** The masks that the latest changes replaced, for the before/after view. */
  private readonly before = new Map<number, MaskMessage>();

  constructor(private readonly maxBytes = MAX_BYTES) {}

  /** Keeps the masks of a frame, unless newer ones are kept. */
  put(message: MaskMessage): boolean {
    const old = this.slots.get(message.frame);
    if (old && old.message.revision > message.revision) return false;
    if (old) {
      this.bytes -= cost(old.message);
      this.slots.delete(message.frame);
      if (!equalMasks(old.message, message)) this.remember(old.message);
    }
    this.slots.set(message.frame, { message, stale: false });
    this.bytes += cost(message);
    for (const [frame, slot] of this.slots) {
      if (this.bytes <= this.maxBytes || frame === message.frame) break;
      this.slots.delete(frame);
      this.bytes -= cost(slot.message);
    }
    return true;
  }

  /** The masks of a frame, perhaps replaced on the server since (`isFresh`). */
  get(frame: number): MaskMessage | null {
    const slot = this.slots.get(frame);
    if (!slot) return null;
    this.slots.delete(frame);
    this.slots.set(frame, slot);
    return slot.message;
  }

  isFresh(frame: number): boolean {
    const slot = this.slots.get(frame);
    return slot !== undefined && !slot.stale;
  }

  /** The masks of a frame before the last change of it, or null. */
  previous(frame: number): MaskMessage | null {
    return this.before.get(frame) ?? null;
  }

  /** Marks frames whose masks are older than a change. */
  invalidate(start: number, stop: number, revision: number): void {
    const mark = (slot: Slot) => {
      if (slot.message.revision < revision) slot.stale = true;
    };
    if (stop - start <= this.slots.size) {
      for (let frame = start; frame < stop; frame += 1) {
        const slot = this.slots.get(frame);
        if (slot) mark(slot);
      }
    } else {
      for (const [frame, slot] of this.slots) if (start <= frame && frame < stop) mark(slot);
    }
  }

  /** After a reconnect nothing is known to be current; a server that was killed may
   * even count its revisions from an earlier one. */
  invalidateAll(): void {
    for (const slot of this.slots.values()) {
      slot.stale = true;
      slot.message = { ...slot.message, revision: -1 };
    }
  }

  clear(): void {
    this.slots.clear();
    this.before.clear();
    this.bytes = 0;
  }

  get sizeInBytes(): number {
    return this.bytes;
  }

  private remember(message: MaskMessage): void {
    this.before.delete(message.frame);
    this.before.set(message.frame, message);
    if (this.before.size > 64) this.before.delete(this.before.keys().next().value as number);
  }
}

function cost(message: MaskMessage): number {
  return message.bytes + message.entries.length * ENTRY_OVERHEAD;
}

function equalMasks(a: MaskMessage, b: MaskMessage): boolean {
  return (
    a.entries.length === b.entries.length &&
    a.entries.every((entry, i) => {
      const other = b.entries[i]!;
      return (
        entry.object === other.object &&
        entry.counts.length === other.counts.length &&
        entry.counts.every((byte, j) => byte === other.counts[j])
      );
    })
  );
}
