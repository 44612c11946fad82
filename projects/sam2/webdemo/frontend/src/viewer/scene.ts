// What a renderer draws, and the figures of the effects, which are those of
// `effects.py` on the server.
import type { Effect } from '../protocol';
import type { View } from '../store';
import type { LabelMap } from './label-map';

/** Flags of a slot. */
export const SELECTED = 1;
export const HOVERED = 2;

/** Colour and flags of a slot of the label map. */
export interface Slot {
  readonly color: readonly [red: number, green: number, blue: number];
  readonly flags: number;
}

export interface Scene {
  readonly bitmap: ImageBitmap;
  /** Of the frame; the bitmap may be smaller. */
  readonly height: number;
  readonly width: number;
  /** Null: no masks. */
  readonly labels: LabelMap | null;
  /** Counts up with each change of `labels`. */
  readonly labelsVersion: number;
  /** By slot of the label map. */
  readonly slots: readonly Slot[];
  readonly effect: Effect;
  readonly brightness: number;
  readonly contrast: number;
  readonly view: View;
  /** Size of the canvas in CSS pixels, and device pixels per CSS pixel. */
  readonly canvasHeight: number;
  readonly canvasWidth: number;
  readonly pixelRatio: number;
}

export interface Renderer {
  readonly name: 'webgl2' | 'canvas';
  /** The longest side of a picture that it can draw. */
  readonly maxSide: number;
  render(scene: Scene): void;
  /** Columns of the label map changed in place (a brush). */
  updateColumns(scene: Scene, start: number, stop: number): void;
  dispose(): void;
}

/** The figures of an effect in pixels of the frame. */
export function effectFigures(effect: Effect, height: number, width: number) {
  const side = Math.min(height, width);
  const isOutline = effect.name === 'outline';
  return {
    sigma: effect.strength * 0.05 * side,
    block: Math.max(2, Math.round(effect.strength * 0.1 * side)),
    outline: isOutline
      ? Math.max(1, Math.round((effect.strength * side) / 60))
      : effect.outline
        ? Math.max(1, Math.round(side / 300))
        : 0,
  };
}

export function parseColor(color: string): readonly [number, number, number] {
  const value = Number.parseInt(color.replace('#', ''), 16);
  return [(value >> 16) & 255, (value >> 8) & 255, value & 255];
}

/** The luma of Rec. 601. */
export const LUMA = [0.299, 0.587, 0.114] as const;
export const SPOTLIGHT = 0.9;
/** Squares that stand for transparency, in CSS pixels. */
export const CHECKER = 8;
