import { describe, expect, it } from 'vitest';

import { SCORE_DRAWN, SCORE_NONE } from '../src/protocol';
import {
  clampAxis,
  columnScores,
  dragRange,
  filmstrip,
  frameToX,
  fullAxis,
  panAxis,
  revealFrame,
  ticks,
  visibleRows,
  xToFrame,
  zoomAxis,
} from '../src/timeline/geometry';

/** Random numbers that are the same in every run. */
function* random(seed: number): Generator<number, never> {
  let state = seed;
  for (;;) {
    state = (state * 1103515245 + 12345) % 2147483648;
    yield state / 2147483648;
  }
}

describe('the time axis', () => {
  it('finds each frame at the middle of its own place, at every zoom', () => {
    const numbers = random(1);
    for (let round = 0; round < 300; round += 1) {
      const numFrames = 1 + Math.floor(numbers.next().value * 5000);
      const width = 50 + numbers.next().value * 2000;
      let axis = fullAxis(width, numFrames);
      axis = zoomAxis(axis, 1 + numbers.next().value * 60, numbers.next().value * width);
      axis = panAxis(axis, (numbers.next().value - 0.5) * width);
      const first = Math.ceil(axis.start);
      const last = Math.floor(axis.start + axis.span) - 1;
      for (const frame of [first, Math.floor((first + last) / 2), last]) {
        if (frame < first || frame > last) continue;
        expect(xToFrame(axis, frameToX(axis, frame + 0.5))).toBe(frame);
      }
    }
  });

  it('stays inside of the video however one zooms and pans', () => {
    const numbers = random(2);
    let axis = fullAxis(900, 3000);
    for (let round = 0; round < 500; round += 1) {
      axis = zoomAxis(axis, 0.2 + numbers.next().value * 4, numbers.next().value * 900);
      axis = panAxis(axis, (numbers.next().value - 0.5) * 3000);
      expect(axis.start).toBeGreaterThanOrEqual(0);
      expect(axis.start + axis.span).toBeLessThanOrEqual(3000 + 1e-6);
      expect(axis.width / axis.span).toBeLessThanOrEqual(48 + 1e-9);
    }
  });

  it('keeps the frame under the pointer when one zooms', () => {
    const axis = zoomAxis(fullAxis(900, 3000), 5, 450);
    expect(axis.span).toBe(600);
    for (const x of [0, 123, 450, 900]) {
      const before = axis.start + (x / 900) * axis.span;
      const closer = zoomAxis(axis, 3, x);
      expect(closer.start + (x / 900) * closer.span).toBeCloseTo(before, 6);
    }
  });

  it('reveals a frame and leaves a visible one where it is', () => {
    const axis = clampAxis({ width: 900, numFrames: 3000, start: 100, span: 200 });
    expect(revealFrame(axis, 150)).toBe(axis);
    const moved = revealFrame(axis, 2500);
    expect(moved.start).toBeLessThanOrEqual(2500);
    expect(moved.start + moved.span).toBeGreaterThanOrEqual(2501);
  });

  it('shows one frame as well as many', () => {
    const axis = fullAxis(700, 1);
    expect(xToFrame(axis, 0)).toBe(0);
    expect(xToFrame(axis, 699)).toBe(0);
    expect(xToFrame(axis, -40)).toBe(0);
    expect(ticks(axis)).toEqual([0]);
  });

  it('labels round frames that are far enough apart', () => {
    const axis = clampAxis({ width: 1000, numFrames: 3000, start: 37, span: 900 });
    const frames = ticks(axis);
    expect(frames).toEqual([100, 200, 300, 400, 500, 600, 700, 800, 900]);
    const gap = frameToX(axis, 200) - frameToX(axis, 100);
    expect(gap).toBeGreaterThanOrEqual(72);
  });
});

describe('the scores of columns', () => {
  it('are the minimum of the frames of each column', () => {
    const numbers = random(3);
    const scores = Uint8Array.from({ length: 3000 }, () => {
      const draw = numbers.next().value;
      return draw < 0.1 ? SCORE_NONE : draw < 0.2 ? SCORE_DRAWN : Math.floor(draw * 101);
    });
    const axis = clampAxis({ width: 500, numFrames: 3000, start: 0, span: 3000 });
    const columns = columnScores(scores, axis);
    expect(columns.length).toBe(500);
    for (let x = 0; x < 500; x += 1) {
      expect(columns[x]).toBe(Math.min(...scores.slice(6 * x, 6 * x + 6)));
    }
  });

  it('show a single low frame among 3,000', () => {
    const scores = new Uint8Array(3000).fill(98);
    scores[1234] = 7;
    const columns = columnScores(scores, fullAxis(600, 3000));
    expect([...columns].filter((score) => score === 7).length).toBe(1);
  });

  it('repeat a frame over all of its pixels when one is close', () => {
    const axis = clampAxis({ width: 100, numFrames: 300, start: 10, span: 10 });
    const scores = Uint8Array.from({ length: 300 }, (_, frame) => frame % 100);
    expect([...columnScores(scores, axis)]).toEqual(
      Array.from({ length: 100 }, (_, x) => 10 + Math.floor(x / 10)),
    );
  });
});

describe('rows, ranges and pictures', () => {
  it('draws only visible rows', () => {
    expect(visibleRows(0, 120, 30, 50)).toEqual([0, 4]);
    expect(visibleRows(45, 120, 30, 50)).toEqual([1, 6]);
    expect(visibleRows(1400, 120, 30, 50)).toEqual([46, 50]);
    expect(visibleRows(0, 120, 30, 0)).toEqual([0, 0]);
  });

  it('includes both ends of a drag, in either direction', () => {
    expect(dragRange(4, 9)).toEqual([4, 10]);
    expect(dragRange(9, 4)).toEqual([4, 10]);
    expect(dragRange(4, 4)).toEqual([4, 5]);
  });

  it('covers the axis with pictures that keep their frames when one pans', () => {
    const axis = clampAxis({ width: 800, numFrames: 3000, start: 500, span: 400 });
    const before = filmstrip(axis, 80);
    expect(before[0]!.x).toBeLessThanOrEqual(0);
    const last = before.at(-1)!;
    expect(last.x + last.width).toBeGreaterThanOrEqual(800 - 1e-6);
    expect(before.every((thumb) => thumb.width >= 80)).toBe(true);
    const after = new Set(filmstrip(panAxis(axis, 100), 80).map((thumb) => thumb.frame));
    expect(before.slice(2).every((thumb) => after.has(thumb.frame))).toBe(true);
  });
});
