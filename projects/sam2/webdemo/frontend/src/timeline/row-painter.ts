// Draws the rows of the time line on one canvas: only the rows and columns that are
// visible, so that 50 objects x 3,000 frames cost what eight rows cost.
import type { AnnotatedObject, FrameRange } from '../protocol';
import { SCORE_DRAWN, SCORE_NONE } from '../protocol';
import { type Axis, columnScores, frameToX, frameWidth, scoreHeight, ticks } from './geometry';

export interface TrackRow {
  readonly object: AnnotatedObject;
  readonly scores: Uint8Array;
  readonly selected: boolean;
}

export interface TrackColors {
  readonly surface: string;
  readonly band: string;
  readonly border: string;
  readonly selected: string;
  readonly text: string;
  readonly low: string;
  readonly lock: string;
  readonly broken: string;
  readonly accent: string;
}

/** The theme's colours; a canvas does not read custom properties by itself. */
export function readColors(element: HTMLElement): TrackColors {
  const style = getComputedStyle(element);
  const read = (name: string) => style.getPropertyValue(name).trim();
  return {
    surface: read('--surface'),
    band: read('--surface-2'),
    border: read('--border'),
    selected: read('--accent-soft'),
    text: read('--text-2'),
    low: read('--warning-strong'),
    lock: read('--text-2'),
    broken: read('--danger'),
    accent: read('--accent'),
  };
}

interface Scene {
  readonly axis: Axis;
  readonly rows: readonly TrackRow[];
  readonly rowHeight: number;
  readonly scrollTop: number;
  readonly height: number;
  readonly firstRow: number;
  readonly brokenFrames: readonly number[];
  readonly range: FrameRange | null;
  readonly isLow: (score: number) => boolean;
}

const LOCK_PX = 4;
const LOW_PX = 3;
const MARK_PX = 4;

/** Paints rows `firstRow`, …; `context` is scaled so that a unit is a CSS pixel. */
export function paintRows(context: CanvasRenderingContext2D, scene: Scene, colors: TrackColors) {
  const { axis, rows, rowHeight, scrollTop, height, firstRow } = scene;
  context.clearRect(0, 0, axis.width, height);
  context.fillStyle = colors.surface;
  context.fillRect(0, 0, axis.width, height);
  rows.forEach((row, index) => {
    const top = (firstRow + index) * rowHeight - scrollTop;
    if (row.selected) {
      context.fillStyle = colors.selected;
      context.fillRect(0, top, axis.width, rowHeight);
    }
    paintScores(context, row, scene, top, colors);
    paintLocks(context, row.object, scene, top, colors);
    paintPrompts(context, row.object, scene, top, colors);
    context.fillStyle = colors.border;
    context.fillRect(0, top + rowHeight - 1, axis.width, 1);
  });
  context.fillStyle = colors.broken;
  for (const frame of scene.brokenFrames) {
    context.globalAlpha = 0.35;
    context.fillRect(frameToX(axis, frame), 0, Math.max(2, frameWidth(axis)), height);
  }
  context.globalAlpha = 1;
  if (scene.range) paintRange(context, axis, scene.range, height, colors);
}

function paintScores(
  context: CanvasRenderingContext2D,
  { object, scores }: TrackRow,
  scene: Scene,
  top: number,
  colors: TrackColors,
) {
  const columns = columnScores(scores, scene.axis);
  const base = top + scene.rowHeight - LOCK_PX - 2;
  const full = scene.rowHeight - LOCK_PX - 8;
  const y = (score: number) => base - Math.max(1, full * scoreHeight(score));
  context.fillStyle = object.color;
  context.globalAlpha = object.hidden ? 0.12 : 0.28;
  context.beginPath();
  eachRun(columns, (score) => score !== SCORE_NONE, (first, stop) => {
    context.moveTo(first, base);
    for (let x = first; x < stop; x += 1) {
      context.lineTo(x, y(columns[x]!));
      context.lineTo(x + 1, y(columns[x]!));
    }
    context.lineTo(stop, base);
  });
  context.fill();
  context.globalAlpha = object.hidden ? 0.4 : 1;
  context.strokeStyle = object.color;
  context.lineWidth = 1.5;
  context.beginPath();
  eachRun(columns, (score) => score !== SCORE_NONE, (first, stop) => {
    context.moveTo(first, y(columns[first]!));
    for (let x = first; x < stop; x += 1) context.lineTo(x + 0.5, y(columns[x]!));
    context.lineTo(stop, y(columns[stop - 1]!));
  });
  context.stroke();
  // Drawn masks have no score: their stretch is a closed bar.
  eachRun(columns, (score) => score === SCORE_DRAWN, (first, stop) => {
    context.globalAlpha = object.hidden ? 0.25 : 0.5;
    context.fillRect(first, base - full, Math.max(2, stop - first), full);
  });
  context.globalAlpha = 1;
  context.fillStyle = colors.low;
  eachRun(columns, scene.isLow, (first, stop) => {
    context.globalAlpha = 0.16;
    context.fillRect(first, top, Math.max(2, stop - first), scene.rowHeight - 1);
    context.globalAlpha = 1;
    context.fillRect(first, top, Math.max(2, stop - first), LOW_PX);
  });
}

function paintLocks(
  context: CanvasRenderingContext2D,
  object: AnnotatedObject,
  { axis, rowHeight }: Scene,
  top: number,
  colors: TrackColors,
) {
  const y = top + rowHeight - LOCK_PX - 1;
  context.fillStyle = colors.lock;
  const ranges: readonly FrameRange[] = object.locked ? [[0, axis.numFrames]] : object.locked_frames;
  for (const [start, stop] of ranges) {
    const left = frameToX(axis, start);
    const right = Math.max(left + 2, frameToX(axis, stop));
    if (right < 0 || left > axis.width) continue;
    context.fillRect(left, y, right - left, LOCK_PX);
    // Posts at both ends: a pass stops there.
    context.fillRect(left, top + rowHeight / 2, 1.5, rowHeight / 2);
    context.fillRect(right - 1.5, top + rowHeight / 2, 1.5, rowHeight / 2);
  }
}

function paintPrompts(
  context: CanvasRenderingContext2D,
  object: AnnotatedObject,
  { axis, rowHeight }: Scene,
  top: number,
  colors: TrackColors,
) {
  const y = top + (rowHeight - LOCK_PX) / 2;
  context.lineWidth = 1.5;
  context.strokeStyle = colors.surface;
  context.fillStyle = object.color;
  for (const [key, prompt] of Object.entries(object.prompts)) {
    const x = frameToX(axis, Number(key) + 0.5);
    if (x < -MARK_PX || x > axis.width + MARK_PX) continue;
    context.beginPath();
    if (prompt.mask && !prompt.points.length && !prompt.box) {
      context.rect(x - MARK_PX, y - MARK_PX, 2 * MARK_PX, 2 * MARK_PX);
    } else {
      context.moveTo(x, y - MARK_PX - 1);
      context.lineTo(x + MARK_PX + 1, y);
      context.lineTo(x, y + MARK_PX + 1);
      context.lineTo(x - MARK_PX - 1, y);
      context.closePath();
    }
    context.fill();
    context.stroke();
  }
}

function paintRange(
  context: CanvasRenderingContext2D,
  axis: Axis,
  [start, stop]: FrameRange,
  height: number,
  colors: TrackColors,
) {
  const left = frameToX(axis, start);
  const right = frameToX(axis, stop);
  context.fillStyle = colors.accent;
  context.globalAlpha = 0.14;
  context.fillRect(left, 0, right - left, height);
  context.globalAlpha = 1;
  context.fillRect(left, 0, 1, height);
  context.fillRect(right - 1, 0, 1, height);
}

/** The ruler: numbers of frames, the range, and broken frames. */
export function paintRuler(
  context: CanvasRenderingContext2D,
  axis: Axis,
  height: number,
  range: FrameRange | null,
  brokenFrames: readonly number[],
  colors: TrackColors,
) {
  context.clearRect(0, 0, axis.width, height);
  if (range) paintRange(context, axis, range, height, colors);
  context.font = `11px ${getComputedStyle(context.canvas).fontFamily}`;
  context.textBaseline = 'middle';
  for (const frame of ticks(axis)) {
    const x = frameToX(axis, frame);
    context.fillStyle = colors.border;
    context.fillRect(Math.round(x), height - 7, 1, 7);
    context.fillStyle = colors.text;
    context.fillText(String(frame), x + 4, height / 2);
  }
  context.fillStyle = colors.broken;
  for (const frame of brokenFrames) {
    context.fillRect(frameToX(axis, frame), height - 5, Math.max(2, frameWidth(axis)), 5);
  }
}

/** Calls `visit` with each run of columns whose score passes the test. */
function eachRun(
  columns: Uint8Array,
  test: (score: number) => boolean,
  visit: (first: number, stop: number) => void,
) {
  let first = -1;
  for (let x = 0; x <= columns.length; x += 1) {
    const inside = x < columns.length && test(columns[x]!);
    if (inside && first < 0) first = x;
    if (!inside && first >= 0) {
      visit(first, x);
      first = -1;
    }
  }
}
