// A box: drag it up, or drag a handle of the box that is there.
import * as commands from '../commands';
import type { Box } from '../protocol';
import * as store from '../store';
import { HANDLE_RADIUS, NEW_OBJECT_COLOR, boxHandles, drawBox } from '../viewer/marks';
import type { Stage } from '../viewer/stage';
import { clampToFrame, editableFrame } from './gesture';
import type { Gesture, PointerInfo, StartGesture } from './gesture';

const REACH = HANDLE_RADIUS + 4;
const SMALLEST = 2;

/** The handle of the active object's box under the pointer (0 to 7), or -1. */
export function handleAt(stage: Stage, pointer: PointerInfo): number {
  const frame = store.shownFrame.value;
  const active = store.activeObject.value;
  const box = frame === null || active === null ? null : store.promptOf(frame, active)?.box;
  if (!box) return -1;
  const corners = [...stage.toCanvas(box[0], box[1]), ...stage.toCanvas(box[2], box[3])] as const;
  return boxHandles(...(corners as [number, number, number, number])).findIndex(
    ([x, y]) => Math.hypot(x - pointer.canvasX, y - pointer.canvasY) <= REACH,
  );
}

export const startBox: StartGesture = (stage, pointer) => {
  const frame = editableFrame();
  if (frame === null) return null;
  const handle = handleAt(stage, pointer);
  const active = store.activeObject.value;
  const old = handle < 0 ? null : (store.promptOf(frame, active)?.box ?? null);
  if (!old) return newBox(frame, pointer);
  return dragBox(frame, (at) => moveHandle(old, handle, ...clampToFrame(at.x, at.y)));
};

/** Drags up a box that starts at the pointer. */
export function newBox(frame: number, first: PointerInfo): Gesture {
  const start = clampToFrame(first.x, first.y);
  return dragBox(frame, (at) => sorted(...start, ...clampToFrame(at.x, at.y)));
}

function dragBox(frame: number, boxOf: (pointer: PointerInfo) => Box): Gesture {
  let box: Box | null = null;
  return {
    move(pointer) {
      box = boxOf(pointer);
    },
    up(pointer) {
      const [x0, y0, x1, y1] = boxOf(pointer);
      if (x1 - x0 >= SMALLEST && y1 - y0 >= SMALLEST) void commands.setBox(frame, [x0, y0, x1, y1]);
      else commands.notify('info', 'Drag a box around the object.');
    },
    cancel() {},
    draw(context, stage) {
      if (!box) return;
      const active = store.activeObject.value;
      const color = (active !== null && store.objects.value.get(active)?.color) || NEW_OBJECT_COLOR;
      const [x0, y0] = stage.toCanvas(box[0], box[1]);
      const [x1, y1] = stage.toCanvas(box[2], box[3]);
      drawBox(context, x0, y0, x1, y1, color, true);
    },
  };
}

/** A box with one handle moved, numbered as `boxHandles`. */
export function moveHandle([x0, y0, x1, y1]: Box, handle: number, x: number, y: number): Box {
  const left = [0, 6, 7].includes(handle);
  const right = [2, 3, 4].includes(handle);
  const top = [0, 1, 2].includes(handle);
  const bottom = [4, 5, 6].includes(handle);
  return sorted(left ? x : x0, top ? y : y0, right ? x : x1, bottom ? y : y1);
}

function sorted(x0: number, y0: number, x1: number, y1: number): Box {
  return [Math.min(x0, x1), Math.min(y0, y1), Math.max(x0, x1), Math.max(y0, y1)];
}
