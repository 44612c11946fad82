// Where frames are on the time line. All functions are pure; the component and the painter
// share them, so that a mark is where the pointer finds it.
import type { FrameRange } from '../protocol';
import { SCORE_DRAWN, SCORE_NONE } from '../protocol';

/** The visible part of the time axis. */
export interface Axis {
  /** Width on screen in CSS pixels. */
  readonly width: number;
  readonly numFrames: number;
  /** Left edge as a position in frames, not necessarily whole. */
  readonly start: number;
  /** How many frames are visible, not necessarily whole. */
  readonly span: number;
}

/** A zoom beyond this shows nothing new. */
const WIDEST_FRAME_PX = 48;

export function fullAxis(width: number, numFrames: number): Axis {
  return clampAxis({ width, numFrames, start: 0, span: numFrames });
}

/** Keeps the axis inside of the video, and a frame at most 48 pixels wide. */
export function clampAxis(axis: Axis): Axis {
  const numFrames = Math.max(1, axis.numFrames);
  const shortest = Math.min(numFrames, Math.max(1, axis.width / WIDEST_FRAME_PX));
  const span = Math.min(numFrames, Math.max(shortest, axis.span));
  const start = Math.min(numFrames - span, Math.max(0, axis.start));
  return { width: axis.width, numFrames, start, span };
}

/** Left edge of a frame; a frame reaches to the left edge of the next one. */
export function frameToX(axis: Axis, frame: number): number {
  return ((frame - axis.start) / axis.span) * axis.width;
}

export function frameWidth(axis: Axis): number {
  return axis.width / axis.span;
}

/** The frame under a position; positions outside give the first or the last frame. */
export function xToFrame(axis: Axis, x: number): number {
  const frame = Math.floor(axis.start + (x / Math.max(1, axis.width)) * axis.span);
  return Math.min(axis.numFrames - 1, Math.max(0, frame));
}

/** Zooms by a factor (above 1: closer) around a position that stays where it is. */
export function zoomAxis(axis: Axis, factor: number, x: number): Axis {
  const anchor = axis.start + (x / Math.max(1, axis.width)) * axis.span;
  const { span } = clampAxis({ ...axis, span: axis.span / factor });
  return clampAxis({ ...axis, span, start: anchor - (x / Math.max(1, axis.width)) * span });
}

export function panAxis(axis: Axis, pixels: number): Axis {
  return clampAxis({ ...axis, start: axis.start + (pixels / Math.max(1, axis.width)) * axis.span });
}

/** Moves the axis so that a frame is visible; a visible frame moves nothing. */
export function revealFrame(axis: Axis, frame: number): Axis {
  if (frame >= axis.start && frame + 1 <= axis.start + axis.span) return axis;
  return clampAxis({ ...axis, start: frame + 0.5 - axis.span / 2 });
}

/** Frames with a label on the ruler: round numbers, at least `spacing` pixels apart. */
export function ticks(axis: Axis, spacing = 72): number[] {
  const least = Math.max(1, (spacing / Math.max(1, axis.width)) * axis.span);
  const power = 10 ** Math.floor(Math.log10(least));
  const step = [1, 2, 5, 10].map((digit) => digit * power).find((size) => size >= least)!;
  const frames: number[] = [];
  const stop = Math.min(axis.numFrames, axis.start + axis.span);
  for (let frame = Math.ceil(axis.start / step) * step; frame < stop; frame += step) {
    frames.push(frame);
  }
  return frames;
}

/**
 * The lowest presence score that each pixel column shows, so that one low frame among
 * thousands is still seen.
 *
 * @param scores (T,) percent, or SCORE_DRAWN or SCORE_NONE.
 * @returns (width,) percent, SCORE_DRAWN if no mask in the column has a score, or
 *   SCORE_NONE if it shows no mask.
 */
export function columnScores(scores: Uint8Array, axis: Axis): Uint8Array {
  const width = Math.ceil(axis.width);
  const columns = new Uint8Array(width).fill(SCORE_NONE);
  const perPixel = axis.span / axis.width;
  for (let x = 0; x < width; x += 1) {
    const first = Math.floor(axis.start + x * perPixel);
    const stop = Math.max(first + 1, Math.floor(axis.start + (x + 1) * perPixel));
    let lowest = SCORE_NONE;
    for (let frame = first; frame < stop && frame < scores.length; frame += 1) {
      // SCORE_DRAWN and SCORE_NONE are above every percentage.
      lowest = Math.min(lowest, scores[frame]!);
    }
    columns[x] = lowest;
  }
  return columns;
}

/** The range of a drag between two frames, both included. */
export function dragRange(anchor: number, frame: number): FrameRange {
  return [Math.min(anchor, frame), Math.max(anchor, frame) + 1];
}

/** Rows that are (partly) visible, as [first, stop). */
export function visibleRows(
  scrollTop: number,
  height: number,
  rowHeight: number,
  count: number,
): readonly [first: number, stop: number] {
  const first = Math.max(0, Math.floor(scrollTop / rowHeight));
  return [Math.min(first, count), Math.min(count, Math.ceil((scrollTop + height) / rowHeight))];
}

/** One picture of the filmstrip. */
export interface Thumb {
  readonly frame: number;
  readonly x: number;
  readonly width: number;
}

/**
 * Pictures side by side along the axis.
 *
 * They stand at multiples of a power of two, so that panning shows the same pictures and
 * zooming in keeps half of them: a browser loads few new ones.
 */
export function filmstrip(axis: Axis, thumbWidth: number): Thumb[] {
  const least = (thumbWidth / Math.max(1, axis.width)) * axis.span;
  const step = 2 ** Math.max(0, Math.ceil(Math.log2(least)));
  const thumbs: Thumb[] = [];
  const stop = Math.min(axis.numFrames, axis.start + axis.span);
  for (let frame = Math.floor(axis.start / step) * step; frame < stop; frame += step) {
    const x = frameToX(axis, frame);
    const end = frameToX(axis, Math.min(frame + step, axis.numFrames));
    thumbs.push({ frame, x, width: end - x });
  }
  return thumbs;
}

/** Whether a column's score draws a bar of its own height, and which (0 to 1). */
export function scoreHeight(score: number): number {
  return score === SCORE_DRAWN ? 1 : score / 100;
}
