// Points: a click on the object, with Alt or the right button outside of it. A point can
// be dragged; Alt-Shift-click removes it. A drag on the frame draws a box.
import * as commands from '../commands';
import * as store from '../store';
import { POINT_RADIUS, drawPoint } from '../viewer/marks';
import type { Stage } from '../viewer/stage';
import { newBox } from './box';
import { clampToFrame, editableFrame } from './gesture';
import type { Gesture, PointerInfo, StartGesture } from './gesture';

const DRAG_PIXELS = 3;
/** A click may slip, more so that of a finger. */
const BOX_PIXELS = 10;
const REACH = POINT_RADIUS + 3;

/** The point of a selected object under the pointer, or null. */
export function pointAt(stage: Stage, pointer: PointerInfo): store.PointIndex | null {
  const frame = store.shownFrame.value;
  if (frame === null || !store.showPrompts.value) return null;
  const active = store.activeObject.value;
  const objects = [...store.selection.value].sort(
    (a, b) => Number(b === active) - Number(a === active),
  );
  for (const object of objects) {
    const points = store.promptOf(frame, object)?.points ?? [];
    for (let index = points.length - 1; index >= 0; index -= 1) {
      const [x, y] = stage.toCanvas(points[index]![0], points[index]![1]);
      if (Math.hypot(x - pointer.canvasX, y - pointer.canvasY) <= REACH) {
        return { frame, object, index };
      }
    }
  }
  return null;
}

export const startPoint: StartGesture = (stage, pointer) => {
  const point = pointAt(stage, pointer);
  if (point) return changePoint(point, pointer);
  const frame = editableFrame();
  return frame === null ? null : placePoint(frame, pointer);
};

function labelOf(pointer: PointerInfo): 0 | 1 {
  const turned = pointer.alt || pointer.secondary;
  return (store.pointLabel.value === 1) !== turned ? 1 : 0;
}

function placePoint(frame: number, first: PointerInfo): Gesture {
  let pointer = first;
  const label = labelOf(first);
  const box = newBox(frame, first);
  const isBox = (at: PointerInfo) =>
    label === 1 && Math.hypot(at.canvasX - first.canvasX, at.canvasY - first.canvasY) > BOX_PIXELS;
  return {
    move(next) {
      pointer = next;
      box.move(next);
    },
    up(next) {
      if (isBox(next)) box.up(next);
      else void commands.addPoint(frame, [...clampToFrame(next.x, next.y), label]);
    },
    cancel() {},
    draw(context, stage) {
      if (isBox(pointer)) {
        box.draw(context, stage);
        return;
      }
      const [x, y] = stage.toCanvas(...clampToFrame(pointer.x, pointer.y));
      drawPoint(context, x, y, label);
    },
  };
}

function changePoint({ frame, object, index }: store.PointIndex, first: PointerInfo): Gesture {
  let pointer = first;
  const isDrag = (at: PointerInfo) =>
    Math.hypot(at.canvasX - first.canvasX, at.canvasY - first.canvasY) > DRAG_PIXELS;
  return {
    move(next) {
      pointer = next;
    },
    up(next) {
      if (isDrag(next)) {
        void commands.movePoint(frame, object, index, ...clampToFrame(next.x, next.y));
      } else if (first.alt && first.shift) {
        void commands.removePoint(frame, object, index);
      }
    },
    cancel() {},
    draw(context, stage) {
      if (!isDrag(pointer)) return;
      const label = store.promptOf(frame, object)?.points[index]?.[2] ?? 1;
      const [x, y] = stage.toCanvas(...clampToFrame(pointer.x, pointer.y));
      drawPoint(context, x, y, label, true);
    },
  };
}
