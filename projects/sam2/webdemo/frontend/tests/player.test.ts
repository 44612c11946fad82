import { afterEach, beforeEach, expect, it, vi } from 'vitest';

import * as store from '../src/store';
import { play } from '../src/viewer/player';
import type { Stage } from '../src/viewer/stage';
import { hello } from './messages';

let ready: (frame: number) => boolean;
let wanted: readonly number[];
const shown: [time: number, frame: number][] = [];
let stop: () => void;

function start(numFrames: number) {
  store.session.value = hello([], numFrames).session; // 25 frames a second
  store.currentFrame.value = 0;
  store.playing.value = true;
  shown.length = 0;
  const begin = performance.now();
  const unsubscribe = store.currentFrame.subscribe((frame) =>
    shown.push([(performance.now() - begin) / 1000, frame]),
  );
  const stage = {
    isReady: (frame: number) => ready(frame),
    want: (frames: readonly number[]) => {
      wanted = frames;
    },
    frames: { capacity: () => 40 },
  } as unknown as Stage;
  const cancel = play(stage);
  stop = () => {
    cancel();
    unsubscribe();
  };
}

beforeEach(() => {
  vi.useFakeTimers();
  ready = () => true;
  store.playbackSpeed.value = 1;
});
afterEach(() => {
  stop();
  vi.useRealTimers();
});

it('shows every frame at its time, and stops at the last one', () => {
  start(50);
  vi.advanceTimersByTime(3000);
  expect(shown.map(([, frame]) => frame)).toEqual(Array.from({ length: 50 }, (_, i) => i));
  for (const [time, frame] of shown) expect(Math.abs(time - frame / 25)).toBeLessThan(0.04);
  expect(store.playing.value).toBe(false);
});

it.each([0.25, 4])('plays at %d of the speed', (speed) => {
  store.playbackSpeed.value = speed;
  start(1000);
  vi.advanceTimersByTime(2000);
  for (const [time, frame] of shown) {
    expect(Math.abs(frame - time * 25 * speed)).toBeLessThan(4.5);
  }
  expect(store.currentFrame.value).toBeGreaterThan(0.9 * 2 * 25 * speed);
});

it('leaves out frames that are not there in time', () => {
  ready = (frame) => frame % 3 === 0;
  start(1000);
  vi.advanceTimersByTime(2000);
  expect(shown.every(([, frame]) => frame % 3 === 0)).toBe(true);
  for (const [time, frame] of shown) expect(frame).toBeLessThanOrEqual(time * 25 + 0.5);
  expect(store.currentFrame.value).toBeGreaterThan(45);
});

it('waits where nothing comes, and goes on from there', () => {
  ready = (frame) => frame < 10;
  start(1000);
  vi.advanceTimersByTime(5000);
  expect(store.currentFrame.value).toBe(9);
  expect(wanted[0]).toBe(10);
  ready = () => true;
  vi.advanceTimersByTime(1000);
  // No jump over the frames of the time that it waited.
  expect(store.currentFrame.value).toBeLessThan(50);
  expect(store.currentFrame.value).toBeGreaterThan(25);
});
