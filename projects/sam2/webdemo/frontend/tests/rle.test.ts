// The vectors are codes that pycocotools made of noise, of blobs and of edge cases.
// `pixels` is the column-major mask (of small ones), `sum` adds the indices of its ones.
import { describe, expect, it } from 'vitest';

import { decode, encode, paint } from '../src/rle';
import { LabelMap, covers } from '../src/viewer/label-map';
import vectors from './rle-vectors.json';

const fromText = (counts: string) => new TextEncoder().encode(counts);

describe.each(vectors)('$name', ({ size, counts, area: pixels, pixels: text, sum }) => {
  const [height, width] = size as [number, number];
  const mask = decode(fromText(counts), height, width);

  it('decodes to the mask that pycocotools encoded', () => {
    expect(mask.reduce((count, value) => count + value, 0)).toBe(pixels);
    let ones = 0;
    mask.forEach((value, index) => (ones += value * index));
    expect(ones).toBe(sum);
    if (text !== null) expect(mask.join('')).toBe(text);
  });

  it('encodes to the same text', () => {
    expect(encode(mask)).toBe(counts);
  });
});

it('paints later objects over earlier ones and finds the topmost at a pixel', () => {
  const code = (pixels: string) => fromText(encode(Uint8Array.from(pixels, Number)));
  const [left, right] = [code('111111000'), code('000111111')];
  const map = new LabelMap();
  map.build(3, 3, [
    { object: 7, counts: left },
    { object: 300, counts: right },
  ]);
  expect([map.objectAt(0, 2), map.objectAt(1, 0), map.objectAt(2.4, 1.6)]).toEqual([7, 300, 300]);
  expect(map.objectAt(3, 0)).toBeNull();
  expect([covers(left, 3, 1, 0), covers(left, 3, 2, 0)]).toEqual([true, false]);
});

it('keeps more than 255 objects apart', () => {
  const masks = Array.from({ length: 600 }, (_, i) => {
    const mask = new Uint8Array(600);
    mask[i] = 1;
    return { object: 1000 + i, counts: fromText(encode(mask)) };
  });
  const map = new LabelMap();
  map.build(20, 30, masks);
  expect(map.objectAt(29, 19)).toBe(1599);
  expect(map.objectAt(0, 0)).toBe(1000);
});

it('ignores a torn code instead of hanging', () => {
  const labels = new Uint8Array(9);
  paint(fromText('o'), labels, 1);
  paint(fromText('0999999'), labels, 1);
  expect(labels.length).toBe(9);
});
