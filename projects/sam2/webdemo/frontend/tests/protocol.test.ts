import { expect, it } from 'vitest';

import { MASKS, SCORES, parseBinary } from '../src/protocol';
import { binary } from './messages';

it('reads masks with padded codes, flags and scores', () => {
  const message = parseBinary(
    binary(MASKS, { frame: 7, height: 3, width: 4, revision: 9 }, [
      { object: 2, score: 0.5, flags: 1, counts: '05' },
      { object: 70000, score: NaN, flags: 2, counts: '12345' },
    ]),
  );
  expect(message).toMatchObject({ kind: MASKS, frame: 7, height: 3, width: 4, revision: 9 });
  if (message.kind === SCORES) throw new Error('masks expected');
  expect(
    message.entries.map(({ object, score, prompted, locked, counts }) => [
      object, score, prompted, locked, new TextDecoder().decode(counts),
    ]),
  ).toEqual([
    [2, 0.5, true, false, '05'],
    [70000, NaN, false, true, '12345'],
  ]);
});

it('refuses torn messages and other versions', () => {
  expect(() => parseBinary(new ArrayBuffer(8))).toThrow('reload it');
  const other = binary(MASKS, { frame: 0, height: 1, width: 1, revision: 0 }, []);
  new DataView(other).setUint8(0, 2);
  expect(() => parseBinary(other)).toThrow('reload it');
  const torn = binary(MASKS, { frame: 0, height: 1, width: 1, revision: 0 }, [
    { object: 1, score: 1, flags: 0, counts: '1234' },
  ]).slice(0, 30);
  expect(() => parseBinary(torn)).toThrow();
});
