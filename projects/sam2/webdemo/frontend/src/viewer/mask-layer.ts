// The masks of the shown frame: one label map, which the renderer draws and clicks find,
// with the mask that is being drawn in it.
import * as commands from '../commands';
import type { MaskMessage } from '../protocol';
import * as store from '../store';
import { LabelMap, covers } from './label-map';
import type { LabelledMask } from './label-map';
import { NEW_OBJECT_COLOR } from './marks';
import type { Columns, MaskEdit } from './mask-edit';
import { HOVERED, SELECTED, parseColor } from './scene';
import type { Slot } from './scene';

const NEW_OBJECT = -1;

export class MaskLayer {
  readonly labels = new LabelMap();
  /** Counts up with each change of `labels`. */
  version = 0;
  /** The mask that is being drawn, or is sent and not answered. */
  edit: MaskEdit | null = null;
  /** The labels below the mask that is being drawn. */
  private base: Uint8Array | Uint16Array = new Uint8Array();
  /** Of what `labels` was made. */
  private key: readonly unknown[] = [];

  /** Decodes the masks of the shown frame, if they or their order changed. */
  update(frame: number, height: number, width: number): void {
    const { maskCache } = commands;
    const previous = store.flicker.value ? maskCache.previous(frame) : null;
    const message = previous ?? maskCache.get(frame);
    const proposals = this.proposalsOf(frame);
    const edit = this.edit?.frame === frame && !previous ? this.edit : null;
    const order = this.order();
    const key = [message, proposals, edit, edit?.object, height, width, ...order];
    if (key.length === this.key.length && key.every((part, i) => part === this.key[i])) return;
    this.key = key;
    const masks = proposals
      ? proposals.items
          .map(({ index, counts }) => ({ object: index, counts }))
          .sort((a, b) => b.counts.length - a.counts.length)
      : masksInOrder(message, edit ? order.filter((id) => id !== edit.object) : order);
    this.labels.build(height, width, masks);
    this.version += 1;
    if (edit && !proposals) {
      this.base = this.labels.labels.slice();
      this.paint(edit, [0, width]);
    }
  }

  /** Takes over columns of the mask that is being drawn; false if the map is of before it. */
  repaint(edit: MaskEdit, columns: Columns): boolean {
    if (this.base.length !== this.labels.labels.length) return false;
    this.paint(edit, columns);
    this.version += 1;
    return true;
  }

  /** Colours and flags by slot of the label map. */
  slots(frame: number): Slot[] {
    const slotOf = this.proposalsOf(frame) ? proposalSlot : objectSlot;
    return this.labels.slots.map(slotOf);
  }

  /** Proposals of a frame, once their masks have arrived; objects are not shown then. */
  proposalsOf(frame: number): store.Proposals | null {
    const proposals = store.proposals.value;
    return proposals?.frame === frame && proposals.height ? proposals : null;
  }

  /** Visible objects at a point, the topmost first. */
  objectsAt(x: number, y: number): number[] {
    const frame = store.shownFrame.value;
    const message = frame === null ? null : commands.maskCache.get(frame);
    if (!message) return [];
    const { height, width } = message;
    if (x < -0.5 || y < -0.5 || x >= width - 0.5 || y >= height - 0.5) return [];
    return masksInOrder(message, this.order())
      .filter(({ counts }) => covers(counts, height, x, y))
      .map(({ object }) => object)
      .reverse();
  }

  /** The smallest proposal at a point, or null. */
  proposalAt(x: number, y: number): number | null {
    const frame = store.shownFrame.value;
    return frame !== null && this.proposalsOf(frame) ? this.labels.objectAt(x, y) : null;
  }

  /** Objects from the lowest to the topmost: order of creation, selected ones last. */
  private order(): number[] {
    const shown = store.effect.value.objects;
    const visible = store.visibleObjects.value
      .map(({ id }) => id)
      .filter((id) => shown === null || shown.includes(id));
    const active = store.activeObject.value;
    const rank = (id: number) => (id === active ? 2 : store.selection.value.has(id) ? 1 : 0);
    return visible.sort((a, b) => rank(a) - rank(b));
  }

  private paint(edit: MaskEdit, [start, stop]: Columns): void {
    const { labels } = this.labels;
    const slot = this.labels.addSlot(edit.object ?? NEW_OBJECT);
    const { mask, height } = edit;
    for (let i = start * height; i < stop * height; i += 1) {
      labels[i] = mask[i] ? slot : this.base[i]!;
    }
  }
}

function masksInOrder(message: MaskMessage | null, order: readonly number[]): LabelledMask[] {
  const entries = new Map(message?.entries.map((entry) => [entry.object, entry]));
  return order.flatMap((id) => entries.get(id) ?? []);
}

function objectSlot(object: number): Slot {
  const color = store.objects.value.get(object)?.color ?? NEW_OBJECT_COLOR;
  const selected = store.selection.value.has(object) || object === NEW_OBJECT;
  const hovered = store.hoveredObject.value === object;
  return {
    color: parseColor(color),
    flags: (selected ? SELECTED : 0) | (hovered ? HOVERED : 0),
  };
}

/** Colours of proposals: hues by the golden angle, which keeps neighbours apart. */
function proposalSlot(index: number): Slot {
  const hue = (index * 137.508) % 360;
  const channel = (n: number) => {
    const k = (n + hue / 30) % 12;
    return Math.round(255 * (0.55 - 0.35 * Math.max(-1, Math.min(k - 3, 9 - k, 1))));
  };
  const selected = store.selectedProposals.value.has(index);
  const hovered = store.hoveredProposal.value === index;
  return {
    color: [channel(0), channel(8), channel(4)],
    flags: (selected ? SELECTED : 0) | (hovered ? HOVERED : 0),
  };
}
