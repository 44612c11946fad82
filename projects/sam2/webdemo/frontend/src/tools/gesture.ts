// What a tool is: it starts a gesture when the pointer goes down on the frame.
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

/** A position inside of the shown frame, with two decimals. */
export function clampToFrame(x: number, y: number): [x: number, y: number] {
  const [height, width] = store.sizeOf(store.shownFrame.value ?? 0);
  const clamp = (value: number, limit: number) =>
    Math.round(100 * Math.max(0, Math.min(limit - 1, value))) / 100;
  return [clamp(x, width), clamp(y, height)];
}
