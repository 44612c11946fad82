// Brush and eraser: they draw on the mask of the active object; Alt turns them round.
import * as store from '../store';
import { editableFrame } from './gesture';
import type { Gesture, StartGesture } from './gesture';

const startStroke =
  (value: 0 | 1): StartGesture =>
  (stage, pointer) => {
    const drawn = pointer.alt || pointer.secondary ? ((1 - value) as 0 | 1) : value;
    if (editableFrame(drawn) === null) return null;
    const edit = stage.beginEdit();
    if (!edit) return null;
    const radius = store.brushRadius.value;
    let last: readonly [number, number] = [pointer.x, pointer.y];
    const go = (x: number, y: number) => {
      stage.updateEdit(edit, edit.stroke(last, [x, y], radius, drawn));
      last = [x, y];
    };
    go(pointer.x, pointer.y);
    const gesture: Gesture = {
      move: ({ x, y }) => go(x, y),
      up({ x, y }) {
        go(x, y);
        void stage.commitEdit(edit);
      },
      cancel: () => stage.cancelEdit(edit),
      draw() {},
    };
    return gesture;
  };

export const startBrush = startStroke(1);
export const startEraser = startStroke(0);
