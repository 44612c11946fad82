// Points, boxes and drawn masks of objects.
import type { Box, Commands, Point, Prompt, Reply } from '../protocol';
import * as store from '../store';
import { send } from './session';
import { notify } from './notices';
import { selectObject } from './selection';

/** The object that a first prompt is just making: the second click must wait for its id. */
let creating: Promise<Reply | null> | null = null;

/**
 * Acts on the active object, once it has its id.
 *
 * Without a wait where none is needed: two clicks of one moment must not make two objects.
 */
function withTarget(act: (object: number | null) => Promise<Reply | null>): Promise<Reply | null> {
  const active = store.activeObject.value;
  if (active !== null || !creating) return act(active);
  const session = store.session.value?.id;
  return creating.then(() => {
    // The user may have gone to another session meanwhile: nothing is placed there.
    return store.session.value?.id === session ? act(store.activeObject.value) : null;
  });
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
