import { expect, it } from 'vitest';

import { MaskCache } from '../src/viewer/mask-cache';
import { masks } from './messages';

it('drops a mask that is older than the one it has', () => {
  const cache = new MaskCache();
  const newer = masks(3, 8, '0@');
  expect(cache.put(newer)).toBe(true);
  expect(cache.put(masks(3, 7, '1@'))).toBe(false);
  expect(cache.get(3)).toBe(newer);
});

it('knows which masks a change made old, whatever the order of the messages', () => {
  const cache = new MaskCache();
  for (let frame = 0; frame < 10; frame += 1) cache.put(masks(frame, 5, '0@'));
  // The push of the change (revision 6) may come before the text that announces it.
  cache.put(masks(4, 6, '1@'));
  cache.invalidate(3, 7, 6);
  const fresh = Array.from({ length: 10 }, (_, frame) => cache.isFresh(frame));
  expect(fresh).toEqual([true, true, true, false, true, false, false, true, true, true]);
  // An old mask is still shown until the new one is here.
  expect(cache.get(5)).not.toBeNull();
  cache.invalidate(0, 1_000_000_000, 7);
  expect(cache.isFresh(4)).toBe(false);
});

it('keeps the masks before the last change, for the comparison', () => {
  const cache = new MaskCache();
  const before = masks(2, 1, '0@');
  cache.put(before);
  cache.put(masks(2, 2, '1?'));
  expect(cache.previous(2)).toBe(before);
  // The same masks again are no change.
  cache.put(masks(2, 3, '1?'));
  expect(cache.previous(2)).toBe(before);
  expect(cache.previous(5)).toBeNull();
});

it('holds no more than its bytes, and keeps what was used last', () => {
  const size = masks(0, 0, '0@').bytes + 200;
  const cache = new MaskCache(10 * size);
  for (let frame = 0; frame < 10; frame += 1) cache.put(masks(frame, 0, '0@'));
  cache.get(0);
  for (let frame = 10; frame < 15; frame += 1) cache.put(masks(frame, 0, '0@'));
  expect(cache.sizeInBytes).toBe(10 * size);
  expect([0, 1, 5, 6, 14].map((frame) => cache.get(frame) !== null)).toEqual([
    true, false, false, true, true,
  ]);
});
