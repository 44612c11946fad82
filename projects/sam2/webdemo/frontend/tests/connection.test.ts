import { afterEach, beforeEach, expect, it, vi } from 'vitest';

import { Connection } from '../src/connection';
import { FakeSocket, hello } from './messages';

const states: string[] = [];
const closed: string[] = [];
let connection: Connection;

beforeEach(() => {
  vi.useFakeTimers();
  vi.stubGlobal('WebSocket', FakeSocket);
  FakeSocket.all = [];
  states.length = closed.length = 0;
  connection = new Connection('ws://here/socket', {
    onState: (state) => states.push(state),
    onMessage: () => undefined,
    onBinary: () => undefined,
    onClosed: (reason, code) => closed.push(`${code} ${reason}`),
  });
  FakeSocket.last.open();
});
afterEach(() => {
  connection.close();
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

it('greets first, and sends commands only after the server has answered', async () => {
  const answer = connection.request('undo', {});
  expect(FakeSocket.last.sent.map(({ type }) => type)).toEqual(['hello']);
  FakeSocket.last.say(hello([]));
  expect(FakeSocket.last.sent[1]).toEqual({ request: 1, type: 'undo' });
  FakeSocket.last.say({ type: 'done', request: 1 });
  await expect(answer).resolves.toMatchObject({ request: 1 });
  expect(states).toEqual(['connecting', 'connected']);
});

it("rejects with the server's sentence", async () => {
  FakeSocket.last.say(hello([]));
  const answer = connection.request('split_object', { object: 3, frame: 0 });
  FakeSocket.last.say({ type: 'error', request: 1, message: 'There is no object 3.' });
  await expect(answer).rejects.toThrow('There is no object 3.');
});

it('sends again after a cut what was not answered, as the same client and request', async () => {
  FakeSocket.last.say(hello([]));
  const first = connection.request('undo', {});
  const second = connection.request('redo', {});
  FakeSocket.last.say({ type: 'done', request: 1 });
  await first;
  const old = FakeSocket.last;
  old.drop();
  const third = connection.request('cancel', {});
  expect(states.at(-1)).toBe('reconnecting');
  await vi.advanceTimersByTimeAsync(400);
  expect(FakeSocket.last).not.toBe(old);
  FakeSocket.last.open();
  FakeSocket.last.say(hello([]));
  expect(FakeSocket.last.sent[0]).toEqual(old.sent[0]);
  expect(FakeSocket.last.sent.slice(1)).toEqual([
    { request: 2, type: 'redo' },
    { request: 3, type: 'cancel' },
  ]);
  FakeSocket.last.say({ type: 'done', request: 2 });
  FakeSocket.last.say({ type: 'done', request: 3 });
  await Promise.all([second, third]);
  expect(states.at(-1)).toBe('connected');
});

it('does not repeat commands to a server that was started again, but asks for masks', async () => {
  FakeSocket.last.say(hello([]));
  const merge = connection.request('merge_objects', { objects: [1], into: 2 });
  const masks = connection.request('masks', { frames: [3] });
  FakeSocket.last.drop();
  // Never sent, so it is not done.
  const undo = connection.request('undo', {});
  await vi.advanceTimersByTimeAsync(400);
  FakeSocket.last.open();
  FakeSocket.last.say(hello([], 100, 0, 'b'));
  await expect(merge).rejects.toThrow('started again before it answered (merge objects)');
  expect(FakeSocket.last.sent.map(({ type }) => type)).toEqual(['hello', 'masks', 'undo']);
  for (const request of [2, 3]) FakeSocket.last.say({ type: 'done', request });
  await Promise.all([masks, undo]);
});

it('waits longer after each failure, up to ten seconds', async () => {
  const times: number[] = [];
  for (let i = 0; i < 9; i += 1) {
    const before = Date.now();
    FakeSocket.last.drop();
    const count = FakeSocket.all.length;
    while (FakeSocket.all.length === count) await vi.advanceTimersByTimeAsync(50);
    times.push(Date.now() - before);
  }
  expect(times[0]).toBeLessThan(400);
  expect(times[3]).toBeGreaterThan(1000);
  expect(Math.max(...times)).toBeLessThan(10_500);
});

it('leaves a socket on which nothing comes', async () => {
  FakeSocket.last.say(hello([]));
  await vi.advanceTimersByTimeAsync(21_000);
  // Pings are not answered.
  expect(FakeSocket.last.of('ping').length).toBe(2);
  await vi.advanceTimersByTimeAsync(15_000);
  expect(FakeSocket.all.length).toBeGreaterThan(1);
});

it('does not come back where the session was deleted', async () => {
  FakeSocket.last.say(hello([]));
  const answer = connection.request('undo', {});
  FakeSocket.last.drop(4404, 'The session was deleted.');
  await expect(answer).rejects.toThrow('The session was deleted.');
  await vi.advanceTimersByTimeAsync(60_000);
  expect(FakeSocket.all.length).toBe(1);
  expect(closed).toEqual(['4404 The session was deleted.']);
  await expect(connection.request('undo', {})).rejects.toThrow('closed');
});
