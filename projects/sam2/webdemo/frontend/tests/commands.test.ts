// What the page sends and shows, with a server that the test plays.
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

import * as commands from '../src/commands';
import { MASKS } from '../src/protocol';
import * as store from '../src/store';
import { FakeSocket, binary, hello, object } from './messages';

const settle = () => new Promise((resolve) => setTimeout(resolve));

function start(...objects: ReturnType<typeof object>[]) {
  commands.connect('s');
  FakeSocket.last.open();
  FakeSocket.last.say(hello(objects));
}

function changed(objects: Record<number, ReturnType<typeof object> | null>, fields: object = {}) {
  const all = new Map<number, unknown>(store.objects.value);
  for (const [id, record] of Object.entries(objects)) {
    if (record) all.set(Number(id), record);
    else all.delete(Number(id));
  }
  FakeSocket.last.say({
    type: 'changed',
    objects,
    order: [...all.keys()],
    categories: [],
    broken_frames: [],
    undo: 'x',
    redo: null,
    masks: [],
    revision: 1,
    ...fields,
  });
}

beforeEach(() => {
  vi.stubGlobal('WebSocket', FakeSocket);
  FakeSocket.all = [];
  store.notices.value = [];
});
afterEach(() => {
  commands.disconnect();
  vi.unstubAllGlobals();
});

describe('prompts', () => {
  it('sends all points of the object on the frame, also those without an answer', async () => {
    start(object(4, { prompts: { 7: { points: [[1, 2, 1]], box: [0, 0, 9, 9], mask: false } } }));
    commands.selectObject(4);
    void commands.addPoint(7, [5, 5, 0]);
    await settle();
    void commands.addPoint(7, [6, 6, 1]);
    await settle();
    expect(FakeSocket.last.of('prompt').map(({ points, box }) => [points, box])).toEqual([
      [[[1, 2, 1], [5, 5, 0]], [0, 0, 9, 9]],
      [[[1, 2, 1], [5, 5, 0], [6, 6, 1]], [0, 0, 9, 9]],
    ]);
    expect(store.promptOf(7, 4)?.points.length).toBe(3);
    // Refused: the marks go.
    for (const { request } of FakeSocket.last.of('prompt')) {
      FakeSocket.last.say({ type: 'error', request, message: 'No.' });
    }
    await settle();
    expect(store.promptOf(7, 4)?.points.length).toBe(1);
  });

  it('gives the second click on a new object to the object that the first one made', async () => {
    start();
    const first = commands.addPoint(0, [1, 1, 1]);
    const second = commands.addPoint(0, [2, 2, 1]);
    await settle();
    expect(FakeSocket.last.of('prompt').length).toBe(1);
    changed({ 9: object(9, { prompts: { 0: { points: [[1, 1, 1]], box: null, mask: false } } }) });
    FakeSocket.last.say({ type: 'done', request: 1, object: 9 });
    await first;
    await settle();
    const sent = FakeSocket.last.of('prompt')[1]!;
    expect([sent['object'], sent['points']]).toEqual([9, [[1, 1, 1], [2, 2, 1]]]);
    FakeSocket.last.say({ type: 'done', request: sent['request'], object: 9 });
    await second;
    expect([store.activeObject.value, store.pendingPrompts.value.size]).toEqual([9, 0]);
  });

  it('says why a locked frame or object refuses, and sends nothing', async () => {
    start(object(1, { locked_frames: [[3, 5]] }), object(2, { locked: true }));
    await commands.setPrompt(4, 1, [[0, 0, 1]], null);
    await commands.setPrompt(0, 2, [[0, 0, 1]], null);
    expect(FakeSocket.last.of('prompt')).toEqual([]);
    expect(store.notices.value.map(({ message }) => message)).toEqual([
      'Frame 4 of Object 1 is locked: unlock it first (X).',
      'Object 2 is locked: unlock it in the list of objects first.',
    ]);
    void commands.setPrompt(5, 1, [[0, 0, 1]], null);
    expect(FakeSocket.last.of('prompt').length).toBe(1);
  });
});

describe('going to another session', () => {
  it('tells nothing of what was on its way, and places no waiting click there', async () => {
    start(object(1));
    commands.wantMasks([5]);
    void commands.addPoint(0, [1, 1, 1]);
    void commands.addPoint(0, [2, 2, 1]);
    commands.connect('other');
    FakeSocket.last.open();
    await settle();
    FakeSocket.last.say(hello([object(1)]));
    await settle();
    expect(FakeSocket.last.of('prompt')).toEqual([]);
    expect(store.notices.value).toEqual([]);
  });

  it('closes the dialog and forgets the point under the pointer, which Delete removes', () => {
    start(object(1));
    store.dialog.value = 'export';
    store.hoveredPoint.value = { frame: 0, object: 1, index: 0 };
    commands.connect('other');
    expect([store.dialog.value, store.hoveredPoint.value]).toEqual([null, null]);
  });
});

describe('selection', () => {
  it('drops deleted objects', () => {
    start(object(1), object(2), object(3));
    commands.selectObject(2);
    commands.selectObject(3, 'toggle');
    changed({ 3: null });
    expect([store.activeObject.value, [...store.selection.value]]).toEqual([null, [2]]);
  });

  it('selects ranges and toggles', () => {
    start(...[1, 2, 3, 4, 5].map((id) => object(id)));
    commands.selectObject(2);
    commands.selectObject(4, 'range');
    commands.selectObject(3, 'toggle');
    expect([...store.selection.value].sort()).toEqual([2, 4]);
  });
});

it('a message of a pass that changes no object draws no panel again', () => {
  start(object(1), object(2));
  commands.selectObject(1);
  const signals = [
    store.objects, store.categories, store.brokenFrames, store.selection, store.soloObjects,
  ];
  const before = signals.map((signal) => signal.value);
  changed({}, { masks: [[1, 5, 6]], revision: 3 });
  signals.forEach((signal, i) => expect(signal.value).toBe(before[i]));
  changed({ 2: object(2, { name: 'Cat' }) });
  expect(store.objects.value.get(2)?.name).toBe('Cat');
});

it('opening a session selects nothing: a click makes a new object', () => {
  start(object(1));
  expect([store.activeObject.value, store.selection.value.size]).toEqual([null, 0]);
});

describe('jumps', () => {
  it('go to prompted frames of the selected objects', () => {
    const prompt = { points: [[0, 0, 1] as const], box: null, mask: false };
    start(object(1, { prompts: { 10: prompt, 40: prompt } }), object(2, { prompts: { 20: prompt } }));
    commands.newObject();
    const frames: number[] = [];
    for (let i = 0; i < 3; i += 1) {
      commands.jumpToPrompt(1);
      frames.push(store.currentFrame.value);
    }
    commands.selectObject(1);
    commands.jumpToPrompt(-1);
    expect([...frames, store.currentFrame.value]).toEqual([10, 20, 40, 10]);
    commands.jumpToPrompt(-1);
    expect(store.notices.value[0]?.message).toBe('There is no prompted frame before this frame.');
  });

  it('go to the beginning of each run of low scores, not to drawn or missing masks', () => {
    start(object(1));
    const row = store.scoresOf(1);
    row.fill(90);
    row.set([10, 20, 30], 5);
    row.set([253, 255, 49], 50);
    expect(commands.lowScoreRuns(1)).toEqual([5, 52]);
  });

  it('stay inside of the video', () => {
    start();
    commands.seek(1e9);
    expect(store.currentFrame.value).toBe(99);
    commands.step(-1000);
    expect(store.currentFrame.value).toBe(0);
  });
});

describe('masks', () => {
  const push = (frame: number, revision: number, score = 0.25) =>
    FakeSocket.last.push(
      binary(MASKS, { frame, height: 40, width: 60, revision }, [
        { object: 1, score, flags: 0, counts: '0' },
      ]),
    );

  it('are asked for once, the most urgent first, and never again while they are current', async () => {
    start(object(1));
    push(2, 0);
    commands.wantMasks([5, 2, 6, 7]);
    commands.wantMasks([5, 2, 6, 7]);
    await settle();
    expect(FakeSocket.last.of('masks').map(({ frames }) => frames)).toEqual([[5, 6, 7]]);
  });

  it('are asked for again after a change of a range, or a cut', async () => {
    start(object(1));
    push(2, 0);
    changed({}, { masks: [[1, 0, 50]], revision: 1 });
    expect(commands.maskCache.isFresh(2)).toBe(false);
    push(2, 1);
    expect(commands.maskCache.isFresh(2)).toBe(true);
    commands.wantMasks([2]);
    FakeSocket.last.drop();
    await vi.waitUntil(() => FakeSocket.all.length === 2);
    FakeSocket.last.open();
    FakeSocket.last.say(hello([object(1)]));
    expect(commands.maskCache.isFresh(2)).toBe(false);
    expect(FakeSocket.last.of('masks').map(({ frames }) => frames)).toEqual([[2]]);
  });

  it('that are refused are not asked for again and again', async () => {
    start(object(1));
    commands.wantMasks([5]);
    FakeSocket.last.say({ type: 'error', request: 1, message: 'Frame 5 is damaged.' });
    await settle();
    expect(FakeSocket.last.of('masks').length).toBe(1);
    expect(store.notices.value.map(({ message }) => message)).toEqual(['Frame 5 is damaged.']);
    commands.wantMasks([5]);
    expect(FakeSocket.last.of('masks').length).toBe(2);
  });

  it('bring their scores', () => {
    start(object(1), object(2));
    store.scoresOf(2)[3] = 80;
    push(3, 0);
    push(4, 0, NaN);
    expect([store.scoresOf(1)[3], store.scoresOf(1)[4], store.scoresOf(2)[3]]).toEqual([25, 253, 255]);
  });
});
