// Lasso: the outline that is drawn is filled into the mask of the active object; with Alt
// it is taken away.
import { strokeTwice } from '../viewer/marks';
import { editableFrame } from './gesture';
import type { StartGesture } from './gesture';

const MIN_CORNERS = 3;

export const startLasso: StartGesture = (stage, pointer) => {
  const value = pointer.alt || pointer.secondary ? 0 : 1;
  if (editableFrame(value) === null) return null;
  const path: (readonly [number, number])[] = [[pointer.x, pointer.y]];
  return {
    move({ x, y }) {
      path.push([x, y]);
      stage.requestRender();
    },
    up({ x, y }) {
      path.push([x, y]);
      if (path.length < MIN_CORNERS) return;
      const edit = stage.beginEdit();
      if (!edit) return;
      stage.updateEdit(edit, edit.fill(path, value));
      void stage.commitEdit(edit);
    },
    cancel() {},
    draw(context) {
      context.beginPath();
      for (const [x, y] of path) context.lineTo(...stage.toCanvas(x, y));
      context.closePath();
      context.fillStyle = value ? 'rgb(255 255 255 / 0.2)' : 'rgb(0 0 0 / 0.3)';
      context.fill();
      strokeTwice(context, value === 0);
    },
  };
};
