import { describe, expect, it, vi } from 'vitest';

import * as commands from '../src/commands';
import { moveHandle } from '../src/tools/box';
import { MaskEdit } from '../src/viewer/mask-edit';
import { MaskLayer } from '../src/viewer/mask-layer';
import { Stage } from '../src/viewer/stage';

const HEIGHT = 23;
const WIDTH = 31;
const blank = () => new MaskEdit(0, 1, HEIGHT, WIDTH, new Uint8Array(HEIGHT * WIDTH));

function pixels(inside: (x: number, y: number) => boolean): number[] {
  const all: number[] = [];
  for (let x = 0; x < WIDTH; x += 1) {
    for (let y = 0; y < HEIGHT; y += 1) all.push(inside(x, y) ? 1 : 0);
  }
  return all;
}

describe('a stroke', () => {
  it.each([
    [[10, 10], [10, 10], 4],
    [[3, 4], [25, 17], 2.5],
    [[-20, 5], [50, 9], 3],
    [[5, 30], [8, -9], 1],
  ] as const)('from %j to %j with radius %d covers the pixels within it', (from, to, radius) => {
    const edit = blank();
    const [start, stop] = edit.stroke(from, to, radius, 1);
    const distance = (x: number, y: number) => {
      // The closest of many points of the line.
      let best = Infinity;
      for (let t = 0; t <= 2_000; t += 1) {
        const [px, py] = [0, 1].map((k) => from[k]! + ((to[k]! - from[k]!) * t) / 2_000);
        best = Math.min(best, Math.hypot(x - px!, y - py!));
      }
      return best;
    };
    const mask = pixels((x, y) => distance(x, y) <= radius + 1e-4);
    expect([...edit.mask]).toEqual(mask);
    // What is uploaded to the screen covers every changed column.
    mask.forEach((value, i) => {
      const column = Math.floor(i / HEIGHT);
      if (value) expect(start <= column && column < stop).toBe(true);
    });
  });

  it('outside of the frame changes nothing', () => {
    const edit = blank();
    edit.stroke([-50, -50], [-40, -40], 5, 1);
    expect(edit.mask.includes(1)).toBe(false);
  });
});

it('the drawn mask goes with the answer, though another tool is in use by then', async () => {
  vi.spyOn(commands, 'drawMask').mockResolvedValue({ object: 1 });
  const edit = blank();
  const stage: Stage = Object.assign(Object.create(Stage.prototype), {
    masks: Object.assign(new MaskLayer(), { edit }),
    gesture: { draw: () => undefined },
    requestRender: () => undefined,
  });
  await stage.commitEdit(edit);
  expect(stage.masks.edit).toBeNull();
  vi.restoreAllMocks();
});

describe('a polygon', () => {
  it('fills the pixels whose centres are inside, even where it leaves the frame', () => {
    const edit = blank();
    const [cx, cy, r] = [18.3, 9.7, 16.2];
    const corners = Array.from({ length: 720 }, (_, i) => {
      const angle = (i * Math.PI) / 360;
      return [cx + r * Math.cos(angle), cy + r * Math.sin(angle)] as const;
    });
    edit.fill(corners, 1);
    const mask = pixels((x, y) => Math.hypot(x - cx, y - cy) < r);
    // A polygon of 720 corners is a circle to a thousandth of a pixel.
    expect([...edit.mask].filter((value, i) => value !== mask[i]).length).toBe(0);
  });

  it('takes away', () => {
    const edit = blank();
    edit.mask.fill(1);
    edit.fill([[4.5, 4.5], [10.5, 4.5], [10.5, 9.5], [4.5, 9.5]], 0);
    expect([...edit.mask]).toEqual(pixels((x, y) => !(x >= 5 && x <= 10 && y >= 5 && y <= 9)));
  });
});

it('a handle that is dragged over the other side turns the box round', () => {
  expect(moveHandle([10, 10, 20, 20], 4, 25, 30)).toEqual([10, 10, 25, 30]);
  expect(moveHandle([10, 10, 20, 20], 0, 30, 5)).toEqual([20, 5, 30, 20]);
  expect(moveHandle([10, 10, 20, 20], 7, 2, 99)).toEqual([2, 10, 20, 20]);
});
