// What a user can do: every button and key of the page calls a function of this module.
// Failures become notices, so callers need no error handling; a command that was refused
// returns null (or false).
import { batch } from '@preact/signals';
import type { Signal } from '@preact/signals';

import * as api from './api';
import { CommandError, Connection } from './connection';
import type {
  AnnotatedObject,
  Box,
  CommandType,
  Commands,
  Direction,
  Effect,
  FolderListing,
  MaskMessage,
  NoticeLevel,
  ObjectProperties,
  Point,
  Prompt,
  Reply,
  ScoreMessage,
  ServerMessage,
  SessionKind,
} from './protocol';
import { MASKS, SCORES, SCORE_DRAWN, SCORE_NONE, parseBinary } from './protocol';
import * as store from './store';
import { MaskCache } from './viewer/mask-cache';

export const maskCache = new MaskCache();
/** Called by the viewer, to draw again when masks of a frame arrive. */
export const maskListeners = new Set<(frame: number) => void>();

let connection: Connection | null = null;

// ----------------------------------------------------------------------- notices

let nextNotice = 1;
const NOTICE_MS = { info: 4_000, warning: 8_000, error: 12_000 };

/** Shows a message; it goes after a while unless it is permanent. */
export function notify(level: NoticeLevel, message: string, permanent = false): void {
  const same = store.notices.value.find((notice) => notice.message === message);
  if (same) return;
  const notice = { id: nextNotice++, level, message, permanent };
  store.notices.value = [...store.notices.value, notice];
  if (!permanent) setTimeout(() => dismissNotice(notice.id), NOTICE_MS[level]);
}

export function dismissNotice(id: number): void {
  store.notices.value = store.notices.value.filter((notice) => notice.id !== id);
}

/** Runs a call of the server; its error becomes a notice. */
async function attempt<T>(call: () => Promise<T>): Promise<T | null> {
  try {
    return await call();
  } catch (error) {
    if (error instanceof api.ApiError && error.status === 401) store.needsToken.value = true;
    else notify('error', messageOf(error), isDiskFull(error));
    return null;
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function isDiskFull(error: unknown): boolean {
  return (
    (error instanceof api.ApiError && error.status === 507) ||
    /no space|disk (is )?full|quota|file too large/i.test(messageOf(error))
  );
}

// ------------------------------------------------------------------- start page

export async function loadInfo(): Promise<void> {
  const info = await attempt(api.getInfo);
  if (info) {
    store.info.value = info;
    store.models.value = info.models;
  }
}

export async function refreshSessions(): Promise<void> {
  const sessions = await attempt(api.getSessions);
  if (sessions) store.sessions.value = sessions;
}

/** The entries of a folder below the server's roots; an empty path lists the roots. */
export function browse(path: string): Promise<FolderListing | null> {
  return attempt(() => api.browse(path));
}

/** Makes a session of a path, `example:NAME` or `upload:ID`, and opens it. */
export async function createSession(
  source: string,
  kind?: SessionKind,
  name?: string,
): Promise<string | null> {
  store.opening.value = true;
  const created = await attempt(() => api.createSession(source, kind, name));
  store.opening.value = false;
  if (!created) return null;
  openSession(created.id);
  return created.id;
}

export function openSession(id: string): void {
  location.hash = `#/sessions/${encodeURIComponent(id)}`;
}

export function closeSession(): void {
  location.hash = '#/';
}

export async function renameSession(id: string, name: string): Promise<boolean> {
  const renamed = await attempt(() => api.renameSession(id, name).then(() => true));
  if (!renamed) return false;
  const session = store.session.value;
  if (session?.id === id) store.session.value = { ...session, name };
  await refreshSessions();
  return true;
}

/** Finds the video of a session again; false if it is another one. */
export async function moveSession(id: string, source: string): Promise<boolean> {
  const moved = await attempt(() => api.moveSession(id, source).then(() => true));
  await refreshSessions();
  return moved === true;
}

export async function deleteSession(id: string): Promise<void> {
  await attempt(() => api.deleteSession(id));
  await refreshSessions();
}

const cancelUploads = new Map<number, () => void>();
let nextUpload = 1;

/**
 * Uploads a video, or images that become one folder.
 *
 * @returns The source for `createSession` or `importAnnotations`, null if it failed.
 */
export async function upload(files: readonly File[]): Promise<string | null> {
  let folder: string | undefined;
  for (const file of files) {
    const limit = store.info.value?.max_upload_bytes;
    if (limit !== undefined && file.size > limit) {
      const gigabytes = (limit / 2 ** 30).toFixed(1);
      notify(
        'error',
        `${file.name} is larger than the server takes (${gigabytes} GiB): start it with a larger --max-upload-gb, or open the file by its path.`,
      );
      return null;
    }
    const id = nextUpload++;
    const change = (fields: Partial<store.Upload>) => {
      store.uploads.value = store.uploads.value.map((item) =>
        item.id === id ? { ...item, ...fields } : item,
      );
    };
    store.uploads.value = [
      ...store.uploads.value,
      { id, name: file.name, loaded: 0, total: file.size, state: 'running', error: null },
    ];
    const running = api.uploadFile(file, (loaded) => change({ loaded }), folder);
    let cancelled = false;
    cancelUploads.set(id, () => {
      cancelled = true;
      running.cancel();
    });
    try {
      folder = await running.done;
      change({ state: 'done', loaded: file.size });
      const finished = id;
      setTimeout(() => {
        store.uploads.value = store.uploads.value.filter((item) => item.id !== finished);
      }, 3_000);
    } catch (error) {
      change({ state: cancelled ? 'cancelled' : 'failed', error: messageOf(error) });
      if (!cancelled) notify('error', messageOf(error), isDiskFull(error));
      return null;
    } finally {
      cancelUploads.delete(id);
    }
  }
  return folder ?? null;
}

export function cancelUpload(id: number): void {
  cancelUploads.get(id)?.();
}

export function dismissUpload(id: number): void {
  store.uploads.value = store.uploads.value.filter((item) => item.id !== id);
}

// ------------------------------------------------------------------- connection

/** Connects to a session; the state of the one before is dropped. */
export function connect(id: string): void {
  disconnect();
  fitted = true;
  connection = new Connection(api.socketUrl(id), {
    onState: (state) => {
      store.connectionState.value = state;
    },
    onMessage: receive,
    onBinary: (buffer) => receiveBinary(buffer),
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
  creating = null;
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
    store.rangeSelection.value = null;
    store.currentFrame.value = 0;
    store.shownFrame.value = null;
    store.frameError.value = null;
    store.playing.value = false;
    store.recovered.value = false;
    store.crosshair.value = null;
    store.effect.value = { ...store.effect.value, objects: null };
    store.scores.clear();
    store.scoresRevision.value += 1;
  });
}

/** Whether the server has answered all that was asked. */
export function isQuiet(): boolean {
  return !connection?.numWaiting && !creating && !scoresTimer;
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
          notify('error', state.message ?? `${state.label} failed.`, isDiskFull(state.message));
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

/** Takes a binary message; exported for the mock of the tests. */
export function receiveBinary(buffer: ArrayBuffer): void {
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
  if (!connection || store.connectionState.value !== 'connected') return;
  if (masksInFlight >= MAX_REQUESTS) return;
  const frames = wantedFrames
    .filter((frame) => !maskCache.isFresh(frame) && !requestedFrames.has(frame))
    .slice(0, MAX_FRAMES_PER_REQUEST);
  if (!frames.length) return;
  for (const frame of frames) requestedFrames.add(frame);
  masksInFlight += 1;
  try {
    await connection.request('masks', { frames });
  } catch (error) {
    if (connection) notify('error', messageOf(error));
  } finally {
    masksInFlight -= 1;
    for (const frame of frames) requestedFrames.delete(frame);
  }
  void requestMasks();
}

// -------------------------------------------------------------------- commands

/** Sends a command; a refusal becomes a notice and null. */
async function send<T extends CommandType>(type: T, fields: Commands[T]): Promise<Reply | null> {
  const current = connection;
  if (!current) return null;
  store.pendingCommands.value += 1;
  try {
    return await current.request(type, fields);
  } catch (error) {
    // Leaving a session rejects what is on its way: nothing to tell.
    if (current === connection && error instanceof CommandError) {
      notify('error', error.message, isDiskFull(error));
    }
    return null;
  } finally {
    store.pendingCommands.value -= 1;
  }
}

/** The object that a first prompt is just making: the second click must wait for its id. */
let creating: Promise<Reply | null> | null = null;

/**
 * Acts on the active object, once it has its id.
 *
 * Without a wait where none is needed: two clicks of one moment must not make two objects.
 */
function withTarget<T>(act: (object: number | null) => Promise<T>): Promise<T> {
  const active = store.activeObject.value;
  if (active !== null || !creating) return act(active);
  return creating.then(() => act(store.activeObject.value));
}

/** Sends a prompt or a mask; `object` null makes a new object, which becomes active. */
async function sendToObject<T extends 'prompt' | 'draw'>(
  type: T,
  fields: Commands[T],
): Promise<Reply | null> {
  const reason = store.lockReason(fields.object, fields.frame);
  if (reason) {
    notify('warning', reason);
    return null;
  }
  const sent = send(type, fields).then((reply) => {
    if (fields.object === null && reply?.object !== undefined) selectObject(reply.object);
    return reply;
  });
  if (fields.object === null) {
    creating = sent;
    void sent.finally(() => {
      if (creating === sent) creating = null;
    });
  }
  return sent;
}

/** Sets all points and the box of an object on a frame; both empty clears them. */
export async function setPrompt(
  frame: number,
  object: number | null,
  points: readonly Point[],
  box: Box | null,
): Promise<Reply | null> {
  const key = store.promptKey(frame, object);
  const prompt: Prompt = { points, box, mask: false };
  const reason = store.lockReason(object, frame);
  if (!reason) {
    store.pendingPrompts.value = new Map(store.pendingPrompts.value).set(key, prompt);
  }
  const reply = await sendToObject('prompt', { frame, object, points, box });
  if (store.pendingPrompts.value.get(key) === prompt) {
    const pending = new Map(store.pendingPrompts.value);
    pending.delete(key);
    store.pendingPrompts.value = pending;
  }
  return reply;
}

/** Adds a click to the active object, or makes a new object with it. */
export function addPoint(frame: number, point: Point): Promise<Reply | null> {
  return withTarget((object) => {
    const prompt = store.promptOf(frame, object);
    return setPrompt(frame, object, [...(prompt?.points ?? []), point], prompt?.box ?? null);
  });
}

export async function movePoint(
  frame: number,
  object: number,
  index: number,
  x: number,
  y: number,
): Promise<Reply | null> {
  const prompt = store.promptOf(frame, object);
  const point = prompt?.points[index];
  if (!prompt || !point) return null;
  return setPrompt(frame, object, prompt.points.with(index, [x, y, point[2]]), prompt.box);
}

export async function removePoint(
  frame: number,
  object: number,
  index: number,
): Promise<Reply | null> {
  const prompt = store.promptOf(frame, object);
  if (!prompt) return null;
  return setPrompt(frame, object, prompt.points.toSpliced(index, 1), prompt.box);
}

/** Why no prompt can be placed on a frame, or null. */
export function promptRefusal(frame: number): string | null {
  if (store.broken.value.has(frame) || store.frameError.value) {
    return `Frame ${frame} cannot be read, so nothing can be marked on it.`;
  }
  return store.lockReason(store.activeObject.value, frame);
}

/** Sets the box of the active object, or makes a new object with it. */
export function setBox(frame: number, box: Box): Promise<Reply | null> {
  return withTarget((object) =>
    setPrompt(frame, object, store.promptOf(frame, object)?.points ?? [], box),
  );
}

export async function removeBox(frame: number, object: number): Promise<Reply | null> {
  return setPrompt(frame, object, store.promptOf(frame, object)?.points ?? [], null);
}

/** Replaces the mask of the active object on a frame (COCO counts), or makes a new one. */
export function drawMask(
  frame: number,
  size: readonly [height: number, width: number],
  counts: string,
): Promise<Reply | null> {
  return withTarget((object) => sendToObject('draw', { frame, object, mask: { size, counts } }));
}

/** Removes points, box and drawn mask of an object from a frame. */
export async function clearPrompts(frame: number, object: number): Promise<Reply | null> {
  const reason = store.lockReason(object, frame);
  if (reason) {
    notify('warning', reason);
    return null;
  }
  return send('clear_prompts', { frame, object });
}

export async function addObject(name?: string, category?: string): Promise<number | null> {
  const reply = await send('add_object', {
    ...(name !== undefined && { name }),
    ...(category !== undefined && { category }),
  });
  if (reply?.object === undefined) return null;
  selectObject(reply.object);
  return reply.object;
}

/** The next prompt makes a new object. */
export function newObject(): void {
  batch(() => {
    store.activeObject.value = null;
    store.selection.value = new Set();
  });
}

export const updateObject = (object: number, properties: ObjectProperties) =>
  send('update_object', { object, ...properties });

export async function updateObjects(
  objects: Iterable<number>,
  properties: ObjectProperties,
): Promise<void> {
  await Promise.all([...objects].map((object) => updateObject(object, properties)));
}

export const deleteObjects = (objects: readonly number[]) => send('delete_objects', { objects });

export async function mergeObjects(objects: readonly number[], into: number): Promise<void> {
  const reply = await send('merge_objects', { objects: objects.filter((id) => id !== into), into });
  if (reply) selectObject(reply.object ?? into);
}

/** From `frame` on the object becomes a new one, which is selected. */
export async function splitObject(object: number, frame: number): Promise<void> {
  const reply = await send('split_object', { object, frame });
  if (reply?.object !== undefined) selectObject(reply.object);
}

export const deleteMasks = (object: number, start: number, stop: number) =>
  send('delete_masks', { object, start, stop });

export const lockFrames = (object: number, start: number, stop: number, locked: boolean) =>
  send('lock_frames', { object, start, stop, locked });

/**
 * Tracks objects (null: all) from a frame; stop excluded, null for the end (or the
 * beginning, backwards).
 */
export const propagate = (
  objects: readonly number[] | null,
  start: number,
  stop: number | null,
  direction: Direction,
) => send('propagate', { objects, start, stop, direction });

/** Tracks again from a frame in both directions up to locked frames. */
export const refine = (objects: readonly number[] | null, frame: number) =>
  send('refine', { objects, frame });

export const cancelPass = () => send('cancel', {});

export const propose = (frame: number, settings?: Readonly<Record<string, number>>) =>
  send('propose', { frame, ...(settings && { settings }) });

export const proposeText = (frame: number, text: string, threshold?: number) =>
  send('propose_text', { frame, text, ...(threshold !== undefined && { threshold }) });

/** Makes objects of proposals. */
export async function acceptProposals(
  indices: readonly number[],
  names?: readonly string[],
  category?: string,
): Promise<void> {
  const proposals = store.proposals.value;
  if (!proposals || !indices.length) return;
  const reply = await send('accept_proposals', {
    frame: proposals.frame,
    indices,
    ...(names && { names }),
    ...(category && { category }),
  });
  if (!reply) return;
  discardProposals();
  const created = reply.objects ?? [];
  batch(() => {
    store.activeObject.value = created.at(-1) ?? null;
    store.selection.value = new Set(created);
  });
}

export function toggleProposal(index: number): void {
  const selected = new Set(store.selectedProposals.value);
  if (!selected.delete(index)) selected.add(index);
  store.selectedProposals.value = selected;
}

export function discardProposals(): void {
  batch(() => {
    store.proposals.value = null;
    store.selectedProposals.value = new Set();
    store.hoveredProposal.value = null;
  });
}

export async function undo(): Promise<void> {
  if (store.undoLabel.value !== null) await send('undo', {});
}

export async function redo(): Promise<void> {
  if (store.redoLabel.value !== null) await send('redo', {});
}

// ------------------------------------------------------------------- selection

export function selectObject(id: number | null, mode: 'only' | 'toggle' | 'range' = 'only'): void {
  batch(() => {
    if (id === null) {
      newObject();
      return;
    }
    const selected = new Set(store.selection.value);
    if (mode === 'toggle') {
      if (selected.delete(id)) {
        store.activeObject.value = [...selected].at(-1) ?? null;
      } else {
        selected.add(id);
        store.activeObject.value = id;
      }
    } else if (mode === 'range' && store.activeObject.value !== null) {
      const ids = [...store.objects.value.keys()];
      const from = ids.indexOf(store.activeObject.value);
      const to = ids.indexOf(id);
      for (const other of ids.slice(Math.min(from, to), Math.max(from, to) + 1)) selected.add(other);
    } else {
      selected.clear();
      selected.add(id);
      store.activeObject.value = id;
    }
    store.selection.value = selected;
  });
}

export function selectAll(): void {
  store.selection.value = new Set(store.objects.value.keys());
  store.activeObject.value ??= [...store.selection.value].at(-1) ?? null;
}

/** Makes the object before or after the active one active. */
export function selectNeighbour(step: 1 | -1): void {
  const ids = [...store.objects.value.keys()];
  if (!ids.length) return;
  const active = store.activeObject.value;
  const index = active === null ? (step > 0 ? -1 : 0) : ids.indexOf(active);
  selectObject(ids[(index + step + ids.length) % ids.length]!);
}

/** Shows only this object (again: all). */
export function toggleSolo(id: number): void {
  const solo = new Set(store.soloObjects.value);
  if (!solo.delete(id)) solo.add(id);
  store.soloObjects.value = solo;
}

export async function toggleHidden(id: number): Promise<void> {
  const object = store.objects.value.get(id);
  if (object) await updateObject(id, { hidden: !object.hidden });
}

export async function toggleLocked(id: number): Promise<void> {
  const object = store.objects.value.get(id);
  if (object) await updateObject(id, { locked: !object.locked });
}

// ---------------------------------------------------------------- moving in time

/** Each still has its own objects: those of another one are not prompted on it. */
function selectOnStill(frame: number): void {
  const isElsewhere = (id: number) => {
    const frames = Object.keys(store.objects.value.get(id)?.prompts ?? {});
    return frames.length > 0 && !frames.includes(String(frame));
  };
  if (![...store.selection.value].some(isElsewhere)) return;
  const here = store.objectList.value.findLast((object) => frame in object.prompts);
  selectObject(here?.id ?? null);
}

/** Goes to a frame; outside of the video to its first or last one. */
export function seek(frame: number): void {
  const last = Math.max(0, store.numFrames.value - 1);
  const target = Math.max(0, Math.min(last, Math.round(frame)));
  batch(() => {
    store.currentFrame.value = target;
    if (store.session.value?.kind === 'images') selectOnStill(target);
  });
}

export function step(frames: number): void {
  store.playing.value = false;
  seek(store.currentFrame.value + frames);
}

export function togglePlay(): void {
  if (!store.playing.value && store.currentFrame.value >= store.numFrames.value - 1) seek(0);
  store.playing.value = !store.playing.value && store.numFrames.value > 1;
}

export function setSpeed(speed: number): void {
  store.playbackSpeed.value = speed;
}

/** The objects that jumps look at: the selected ones, or all. */
function jumpObjects(): readonly number[] {
  const selected = store.selection.value;
  return selected.size ? [...selected] : [...store.objects.value.keys()];
}

function jump(frames: Iterable<number>, direction: 1 | -1, what: string): void {
  const now = store.currentFrame.value;
  const ahead = [...frames].filter((frame) => (frame - now) * direction > 0);
  if (!ahead.length) {
    notify('info', `There is no ${what} ${direction > 0 ? 'after' : 'before'} this frame.`);
    return;
  }
  store.playing.value = false;
  seek(direction > 0 ? Math.min(...ahead) : Math.max(...ahead));
}

export function jumpToPrompt(direction: 1 | -1): void {
  const frames = new Set<number>();
  for (const id of jumpObjects()) {
    for (const frame of Object.keys(store.objects.value.get(id)?.prompts ?? {})) {
      frames.add(Number(frame));
    }
  }
  jump(frames, direction, 'prompted frame');
}

/** First frames of the runs of low scores of an object. */
export function lowScoreRuns(objectId: number): number[] {
  const row = store.scoresOf(objectId);
  const starts: number[] = [];
  for (let frame = 0; frame < row.length; frame += 1) {
    const low = store.isLowScore(row[frame]!);
    if (low && (frame === 0 || !store.isLowScore(row[frame - 1]!))) starts.push(frame);
  }
  return starts;
}

/** Jumps to the next run of frames with a low score. */
export function jumpToLowScore(direction: 1 | -1): void {
  jump(new Set(jumpObjects().flatMap(lowScoreRuns)), direction, 'frame with a low score');
}

// ------------------------------------------------------------------------- view

export const canvasSize = { width: 0, height: 0 };
/** The whole frame is shown: it stays so when the window changes. */
let fitted = true;
const MAX_SCALE = 64;

/** The whole frame in the middle of the canvas. */
export function fitView(): void {
  const [height, width] = store.sizeOf(store.shownFrame.value ?? store.currentFrame.value);
  if (!height || !canvasSize.width) return;
  fitted = true;
  const scale = Math.min(canvasSize.width / width, canvasSize.height / height);
  store.view.value = {
    scale,
    x: (canvasSize.width - width * scale) / 2,
    y: (canvasSize.height - height * scale) / 2,
  };
}

/** Tells the view a new size of the canvas or of the frame. */
export function resizeView(width: number, height: number): void {
  Object.assign(canvasSize, { width, height });
  if (fitted) fitView();
}

/** Zooms about a point of the canvas (CSS pixels), the middle by default. */
export function zoomBy(
  factor: number,
  x = canvasSize.width / 2,
  y = canvasSize.height / 2,
): void {
  const old = store.view.value;
  const [height, width] = store.sizeOf(store.shownFrame.value ?? store.currentFrame.value);
  const fit = Math.min(canvasSize.width / (width || 1), canvasSize.height / (height || 1));
  const scale = Math.max(Math.min(fit, 1) / 4, Math.min(MAX_SCALE, old.scale * factor));
  const ratio = scale / old.scale;
  fitted = false;
  store.view.value = { scale, x: x - (x - old.x) * ratio, y: y - (y - old.y) * ratio };
}

export function zoomTo(scale: number): void {
  zoomBy(scale / store.view.value.scale);
}

export function panBy(x: number, y: number): void {
  fitted = false;
  const old = store.view.value;
  store.view.value = { ...old, x: old.x + x, y: old.y + y };
}

export function setTool(tool: store.ToolName): void {
  store.tool.value = tool;
}

const MIN_BRUSH = 1;
const MAX_BRUSH = 400;

export function setBrushRadius(radius: number): void {
  store.brushRadius.value = Math.max(MIN_BRUSH, Math.min(MAX_BRUSH, radius));
}

export function setEffect(fields: Partial<Effect>): void {
  store.effect.value = { ...store.effect.value, ...fields };
}

export function resetDisplay(): void {
  batch(() => {
    store.brightness.value = 0;
    store.contrast.value = 1;
  });
}

const THEME_KEY = 'mmsam2-theme';

export function setTheme(theme: store.Theme): void {
  store.theme.value = theme;
  if (theme === 'system') delete document.documentElement.dataset['theme'];
  else document.documentElement.dataset['theme'] = theme;
  try {
    localStorage.setItem(THEME_KEY, theme);
  } catch {
    // Private windows may refuse storage; the theme then lasts as long as the page.
  }
}

export function restoreTheme(): void {
  try {
    const stored = localStorage.getItem(THEME_KEY);
    if (stored === 'light' || stored === 'dark') setTheme(stored);
  } catch {
    // See above.
  }
}

// ------------------------------------------------------------- exports and jobs

const POLL_MS = 400;

/** Starts an export, with the frames beside the annotations or without. */
export async function startExport(format: string, withFrames: boolean): Promise<string | null> {
  const session = store.session.value;
  if (!session) return null;
  return followJob(await attempt(() => api.startExport(session.id, format, withFrames)), format);
}

/** Renders a film with the current effect; stop excluded. */
export async function startRender(
  kind: 'mp4' | 'gif',
  effect: Effect,
  start: number,
  stop: number,
): Promise<string | null> {
  const session = store.session.value;
  if (!session) return null;
  return followJob(
    await attempt(() => api.startRender(session.id, kind, effect, start, stop)),
    kind,
  );
}

function followJob(started: { job: string } | null, name: string): string | null {
  if (!started) return null;
  const id = started.job;
  const job: store.Job = {
    id,
    name,
    state: 'running',
    progress: 0,
    error: null,
    file: api.jobFileUrl(id),
  };
  store.jobs.value = [...store.jobs.value, job];
  void pollJob(id);
  return id;
}

async function pollJob(id: string): Promise<void> {
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    let state;
    try {
      state = await api.getJob(id);
    } catch (error) {
      // While the server is away its jobs go on.
      if (error instanceof api.ApiError && error.status === 0) continue;
      state = { state: 'failed' as const, error: messageOf(error) };
    }
    store.jobs.value = store.jobs.value.map((job) => (job.id === id ? { ...job, ...state } : job));
    if (state.state === 'failed') {
      notify('error', state.error ?? 'The export failed.', isDiskFull(state.error));
    }
    if (state.state !== 'running') return;
  }
}

export async function cancelJob(id: string): Promise<void> {
  await attempt(() => api.cancelJob(id));
}

export function dismissJob(id: string): void {
  store.jobs.value = store.jobs.value.filter((job) => job.id !== id);
}

/** Downloads the shown frame as a PNG. */
export async function downloadStill(effect: Effect): Promise<void> {
  const session = store.session.value;
  const frame = store.shownFrame.value;
  if (!session || frame === null) return;
  const blob = await attempt(() => api.renderStill(session.id, frame, effect));
  if (!blob) return;
  const link = document.createElement('a');
  link.href = URL.createObjectURL(blob);
  link.download = `${session.name}_${store.frameName(frame) ?? String(frame).padStart(5, '0')}.png`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

/** Adds the objects of a file or folder (path or `upload:ID`); null format: recognised. */
export async function importAnnotations(source: string, format?: string): Promise<number | null> {
  const session = store.session.value;
  if (!session) return null;
  const reply = await attempt(() => api.importAnnotations(session.id, source, format));
  if (!reply) return null;
  notify('info', `Imported ${reply.num_objects} ${reply.num_objects === 1 ? 'object' : 'objects'}.`);
  return reply.num_objects;
}

// ------------------------------------------------------------ training and models

export async function refreshTraining(): Promise<void> {
  const runs = await attempt(api.getTraining);
  if (runs) store.training.value = runs;
}

export async function startTraining(settings: api.TrainingSettings): Promise<string | null> {
  const started = await attempt(() => api.startTraining(settings));
  await refreshTraining();
  return started?.run ?? null;
}

export async function stopTraining(run: string): Promise<void> {
  await attempt(() => api.stopTraining(run));
  await refreshTraining();
}

export async function refreshModels(): Promise<void> {
  const models = await attempt(api.getModels);
  if (models) store.models.value = models.models;
}

/** Loads another model (`run:RUN/NAME` for one of a training run). */
export async function useModel(name: string): Promise<boolean> {
  const used = await attempt(() => api.useModel(name).then(() => true));
  if (used) await loadInfo();
  return used === true;
}

/** Opens the page again with the token, which the server keeps as a cookie. */
export function enterToken(token: string): void {
  const address = new URL(document.baseURI);
  address.searchParams.set('token', token);
  address.hash = location.hash;
  location.assign(address.href);
}
