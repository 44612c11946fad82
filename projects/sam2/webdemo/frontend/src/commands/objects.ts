// Objects: their properties, masks and locks; tracking them; undo and redo.
import type { Direction, ObjectProperties } from '../protocol';
import * as store from '../store';
import { send } from './session';
import { selectObject } from './selection';

export async function addObject(name?: string, category?: string): Promise<number | null> {
  const reply = await send('add_object', {
    ...(name !== undefined && { name }),
    ...(category !== undefined && { category }),
  });
  if (reply?.object === undefined) return null;
  selectObject(reply.object);
  return reply.object;
}

export const updateObject = (object: number, properties: ObjectProperties) =>
  send('update_object', { object, ...properties });

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

export async function toggleHidden(id: number): Promise<void> {
  const object = store.objects.value.get(id);
  if (object) await updateObject(id, { hidden: !object.hidden });
}

export async function toggleLocked(id: number): Promise<void> {
  const object = store.objects.value.get(id);
  if (object) await updateObject(id, { locked: !object.locked });
}

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

export async function undo(): Promise<void> {
  if (store.undoLabel.value !== null) await send('undo', {});
}

export async function redo(): Promise<void> {
  if (store.redoLabel.value !== null) await send('redo', {});
}
