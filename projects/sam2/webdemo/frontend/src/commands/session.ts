// The open session: what the server says goes into the store, and commands go out.
import { batch } from '@preact/signals';
import type { Signal } from '@preact/signals';

import * as api from '../api';
import { CommandError, Connection } from '../connection';
import type {
  AnnotatedObject,
  CommandType,
  Commands,
  MaskMessage,
  Reply,
  ScoreMessage,
  ServerMessage,
} from '../protocol';
import { MASKS, SCORES, SCORE_DRAWN, SCORE_NONE, parseBinary } from '../protocol';
import * as store from '../store';
import { MaskCache } from '../viewer/mask-cache';
import { isDiskFull, notify, notifyError } from './notices';
import { closeSession, loadInfo } from './sessions';

export const maskCache = new MaskCache();
/** Called by the viewer, to draw again when masks of a frame arrive. */
export const maskListeners = new Set<(frame: number) => void>();

let connection: Connection | null = null;

/** Connects to a session; the state of the one before is dropped. */
export function connect(id: string): void {
  disconnect();
  connection = new Connection(api.socketUrl(id), {
    onState: (state) => {
      store.connectionState.value = state;
    },
    onMessage: receive,
    onBinary: receiveBinary,
    onClosed: (reason, code) => {
      if (code === 4401) store.needsToken.value = true;
      else {
        notify('error', reason);
        closeSession();
      }
    },
  });
}

export function disconnect(): void {
  connection?.close();
  connection = null;
  maskCache.clear();
  wantedFrames = [];
  requestedFrames.clear();
  batch(() => {
    store.session.value = null;
    store.objects.value = new Map();
    store.categories.value = [];
    store.brokenFrames.value = [];
    store.undoLabel.value = null;
    store.redoLabel.value = null;
    store.pass.value = null;
    store.proposals.value = null;
    store.selectedProposals.value = new Set();
    store.pendingPrompts.value = new Map();
    store.activeObject.value = null;
    store.selection.value = new Set();
    store.soloObjects.value = new Set();
    store.hoveredObject.value = null;
    store.hoveredPoint.value = null;
    store.hoveredProposal.value = null;
    store.pointerPosition.value = null;
    store.rangeSelection.value = null;
    store.currentFrame.value = 0;
    store.shownFrame.value = null;
    store.frameError.value = null;
    store.playing.value = false;
    store.recovered.value = false;
    store.flicker.value = false;
    store.dialog.value = null;
    store.crosshair.value = null;
    store.effect.value = { ...store.effect.value, objects: null };
    store.scores.clear();
    store.scoresRevision.value += 1;
  });
}

/** Whether the server has answered all that was asked. */
export function isQuiet(): boolean {
  return !connection?.numWaiting && !scoresTimer;
}

/** Cuts the socket as a network would; for tests. */
export function cutConnection(): void {
  connection?.cut();
}

function receive(message: ServerMessage): void {
  batch(() => {
    switch (message.type) {
      case 'hello': {
        const { session, document: state } = message;
        store.session.value = session;
        replaceObjects(state.order, state.objects);
        replaceList(store.categories, state.categories);
        replaceList(store.brokenFrames, state.broken_frames);
        store.undoLabel.value = message.undo;
        store.redoLabel.value = message.redo;
        store.pass.value = message.pass;
        store.recovered.value ||= message.recovered;
        selectExisting();
        maskCache.invalidateAll();
        requestedFrames.clear();
        requestScores();
        void requestMasks();
        for (const listener of maskListeners) listener(store.currentFrame.value);
        break;
      }
      case 'changed': {
        const known = Object.fromEntries(store.objects.value);
        replaceObjects(message.order, { ...known, ...message.objects });
        replaceList(store.categories, message.categories);
        replaceList(store.brokenFrames, message.broken_frames);
        store.undoLabel.value = message.undo;
        store.redoLabel.value = message.redo;
        selectExisting();
        for (const [, start, stop] of message.masks) {
          maskCache.invalidate(start, stop, message.revision);
          // A single frame is pushed with its scores; a range is asked for.
          if (stop - start > 1) requestScores();
          const frame = store.currentFrame.value;
          if (start <= frame && frame < stop) for (const listener of maskListeners) listener(frame);
        }
        break;
      }
      case 'pass': {
        const { type: _, ...state } = message;
        store.pass.value = state;
        if (state.state === 'failed') {
          notifyError(state.message ?? `${state.label} failed.`);
        }
        if (state.state !== 'running') requestScores();
        break;
      }
      case 'proposals':
        store.proposals.value = {
          frame: message.frame,
          height: 0,
          width: 0,
          items: message.proposals.map((item) => ({ ...item, counts: new Uint8Array() })),
        };
        store.selectedProposals.value = new Set();
        if (!message.proposals.length) notify('info', 'Nothing was found on this frame.');
        break;
      case 'notice':
        notify(message.level, message.message, isDiskFull(message.message));
        break;
      case 'model':
        if (store.session.value) {
          store.session.value = { ...store.session.value, model: message.name };
        }
        void loadInfo();
        break;
      case 'training':
        store.training.value = message.runs;
        break;
      default:
        break;
    }
  });
}

function replaceObjects(
  order: readonly number[],
  records: Readonly<Record<string, AnnotatedObject | null>>,
): void {
  const objects = new Map(
    order.flatMap((id) => {
      const object = records[id];
      return object ? [[id, object] as const] : [];
    }),
  );
  // Each frame of a pass comes with a message: without a change nothing is drawn again.
  const old = [...store.objects.value.values()];
  const same = old.length === objects.size && [...objects.values()].every((o, i) => o === old[i]);
  if (!same) store.objects.value = objects;
}

function replaceList<T>(list: Signal<readonly T[]>, values: readonly T[]): void {
  const old = list.value;
  if (old.length !== values.length || values.some((value, i) => value !== old[i])) {
    list.value = values;
  }
}

/** Drops selected objects that are no more. */
function selectExisting(): void {
  const exists = (id: number) => store.objects.value.has(id);
  const active = store.activeObject.value;
  if (active !== null && !exists(active)) store.activeObject.value = null;
  for (const ids of [store.selection, store.soloObjects]) {
    if (![...ids.value].every(exists)) ids.value = new Set([...ids.value].filter(exists));
  }
}

function receiveBinary(buffer: ArrayBuffer): void {
  const message = parseBinary(buffer);
  if (message.kind === SCORES) receiveScores(message);
  else if (message.kind === MASKS) receiveMasks(message);
  else receiveProposals(message);
}

function receiveMasks(message: MaskMessage): void {
  requestedFrames.delete(message.frame);
  if (!maskCache.put(message)) return;
  for (const object of store.objects.value.keys()) store.scoresOf(object)[message.frame] = SCORE_NONE;
  for (const entry of message.entries) {
    const score = Number.isNaN(entry.score) ? SCORE_DRAWN : Math.round(100 * entry.score);
    store.scoresOf(entry.object)[message.frame] = score;
  }
  store.scoresRevision.value += 1;
  for (const listener of maskListeners) listener(message.frame);
}

function receiveProposals(message: MaskMessage): void {
  const current = store.proposals.value;
  if (current?.frame !== message.frame) return;
  const counts = new Map(message.entries.map((entry) => [entry.object, entry.counts]));
  store.proposals.value = {
    frame: message.frame,
    height: message.height,
    width: message.width,
    items: current.items.map((item) => ({
      ...item,
      counts: counts.get(item.index) ?? item.counts,
    })),
  };
}

function receiveScores(message: ScoreMessage): void {
  store.scores.set(message.object, message.scores.slice());
  store.scoresRevision.value += 1;
}

let scoresTimer = 0;

/** Asks for all rows of scores soon, once for many changes. */
function requestScores(): void {
  window.clearTimeout(scoresTimer);
  scoresTimer = window.setTimeout(() => {
    scoresTimer = 0;
    connection?.request('scores', { objects: null }).catch(() => undefined);
  }, 150);
}

// ------------------------------------------------------------- masks of frames

const MAX_FRAMES_PER_REQUEST = 16;
const MAX_REQUESTS = 4;
let wantedFrames: readonly number[] = [];
const requestedFrames = new Set<number>();
let masksInFlight = 0;

/** Asks for the masks of frames, the most urgent first; replaces what was wanted before. */
export function wantMasks(frames: readonly number[]): void {
  wantedFrames = frames;
  void requestMasks();
}

/** Asks for the masks of one more frame, before all others. */
export function addWantedMask(frame: number): void {
  wantMasks([frame, ...wantedFrames.filter((other) => other !== frame)]);
}

async function requestMasks(): Promise<void> {
  const current = connection;
  if (!current || store.connectionState.value !== 'connected') return;
  if (masksInFlight >= MAX_REQUESTS) return;
  const frames = wantedFrames
    .filter((frame) => !maskCache.isFresh(frame) && !requestedFrames.has(frame))
    .slice(0, MAX_FRAMES_PER_REQUEST);
  if (!frames.length) return;
  for (const frame of frames) requestedFrames.add(frame);
  masksInFlight += 1;
  try {
    await current.request('masks', { frames });
  } catch (error) {
    // Leaving a session rejects what is on its way: nothing to tell.
    if (current === connection) {
      notifyError(error);
      // Asked again at once, they would be refused again.
      wantedFrames = wantedFrames.filter((frame) => !frames.includes(frame));
    }
  } finally {
    masksInFlight -= 1;
    for (const frame of frames) requestedFrames.delete(frame);
  }
  void requestMasks();
}

// --------------------------------------------------------------------- commands

/** Sends a command; a refusal becomes a notice and null. */
export async function send<T extends CommandType>(type: T, fields: Commands[T]): Promise<Reply | null> {
  const current = connection;
  if (!current) return null;
  store.pendingCommands.value += 1;
  try {
    return await current.request(type, fields);
  } catch (error) {
    // Leaving a session rejects what is on its way: nothing to tell.
    if (current === connection && error instanceof CommandError) {
      notifyError(error);
    }
    return null;
  } finally {
    store.pendingCommands.value -= 1;
  }
}
