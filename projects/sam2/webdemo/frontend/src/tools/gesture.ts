// What a tool is: it starts a gesture when the pointer goes down on the frame.
import * as commands from '../commands';
import * as store from '../store';
import type { Drawable, Stage } from '../viewer/stage';

export interface PointerInfo {
  /** Pixels of the frame; may lie outside of it. */
  readonly x: number;
  readonly y: number;
  /** CSS pixels of the canvas. */
  readonly canvasX: number;
  readonly canvasY: number;
  readonly alt: boolean;
  readonly shift: boolean;
  /** Ctrl, on a Mac Command. */
  readonly mod: boolean;
  /** The right button (or Ctrl-click of a Mac). */
  readonly secondary: boolean;
}

export interface Gesture extends Drawable {
  move(pointer: PointerInfo): void;
  /** The pointer goes up: what was drawn is sent. */
  up(pointer: PointerInfo): void;
  /** Escape, or a second finger: nothing is sent. */
  cancel(): void;
}

/** Starts a gesture, or null (the reason has been shown). */
export type StartGesture = (stage: Stage, pointer: PointerInfo) => Gesture | null;

/**
 * The shown frame, or null if the tool cannot act on it (the reason has been shown).
 *
 * @param value what a drawing tool gives to pixels; 0 needs an object to take away from.
 */
export function editableFrame(value: 0 | 1 = 1): number | null {
  const frame = store.shownFrame.value;
  if (frame === null) return null;
  const nothing = value === 0 && store.activeObject.value === null;
  const refusal =
    commands.promptRefusal(frame) ?? (nothing ? 'Select the object to take away from.' : null);
  if (refusal) commands.notify('warning', refusal);
  return refusal ? null : frame;
}

/** A position inside of the shown frame, with two decimals. */
export function clampToFrame(x: number, y: number): [x: number, y: number] {
  const [height, width] = store.sizeOf(store.shownFrame.value ?? 0);
  const clamp = (value: number, limit: number) =>
    Math.round(100 * Math.max(0, Math.min(limit - 1, value))) / 100;
  return [clamp(x, width), clamp(y, height)];
}
