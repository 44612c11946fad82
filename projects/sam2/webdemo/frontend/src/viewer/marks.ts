// Marks over the frame: points, boxes, the brush's circle, the cross hair, and what a tool
// draws while it works. They keep their size on the screen.
import * as commands from '../commands';
import * as store from '../store';
import type { Stage } from './stage';

type Context = CanvasRenderingContext2D;

export const POINT_RADIUS = 6.5;
export const HANDLE_RADIUS = 5;
const SMALL_RADIUS = 3.5;
/** Of what has no object of the server yet. */
export const NEW_OBJECT_COLOR = '#3b82f6';
const POSITIVE = '#16a34a';
const NEGATIVE = '#dc2626';

export function drawMarks(canvas: HTMLCanvasElement, stage: Stage): void {
  const context = canvas.getContext('2d')!;
  const ratio = window.devicePixelRatio || 1;
  const { width, height } = commands.canvasSize;
  if (canvas.width !== Math.round(width * ratio)) canvas.width = Math.round(width * ratio);
  if (canvas.height !== Math.round(height * ratio)) canvas.height = Math.round(height * ratio);
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  const frame = store.shownFrame.value;
  if (frame === null || store.frameError.value) return;
  // Suggested masks have no prompts.
  if (store.showPrompts.value && store.proposals.value?.frame !== frame) {
    const selected = store.selection.value;
    // Selected objects last: their marks are on top.
    const objects = store.visibleObjects.value
      .map(({ id }) => id)
      .sort((a, b) => Number(selected.has(a)) - Number(selected.has(b)));
    for (const id of [...objects, null]) drawPrompt(context, stage, frame, id);
  }
  drawCursor(context, stage);
  stage.gesture?.draw(context, stage);
}

function drawPrompt(context: Context, stage: Stage, frame: number, id: number | null): void {
  const prompt = store.promptOf(frame, id);
  if (!prompt) return;
  const strong = id === null || store.selection.value.has(id);
  const color = (id !== null && store.objects.value.get(id)?.color) || NEW_OBJECT_COLOR;
  if (prompt.box) {
    const [x0, y0] = stage.toCanvas(prompt.box[0], prompt.box[1]);
    const [x1, y1] = stage.toCanvas(prompt.box[2], prompt.box[3]);
    drawBox(context, x0, y0, x1, y1, color, strong);
    if (strong && store.tool.value === 'box') {
      for (const [x, y] of boxHandles(x0, y0, x1, y1)) drawHandle(context, x, y, color);
    }
  }
  prompt.points.forEach(([px, py, label], index) => {
    const [x, y] = stage.toCanvas(px, py);
    const hovered = store.hoveredPoint.value;
    const isHovered = hovered?.frame === frame && hovered.object === id && hovered.index === index;
    if (strong) drawPoint(context, x, y, label, isHovered);
    else drawDot(context, x, y, color);
  });
}

/** Corners and middles of the sides, clockwise from the left upper corner. */
export function boxHandles(x0: number, y0: number, x1: number, y1: number) {
  const [xm, ym] = [(x0 + x1) / 2, (y0 + y1) / 2];
  return [
    [x0, y0], [xm, y0], [x1, y0], [x1, ym], [x1, y1], [xm, y1], [x0, y1], [x0, ym],
  ] as const;
}

export function drawPoint(
  context: Context,
  x: number,
  y: number,
  label: 0 | 1,
  hovered = false,
): void {
  const radius = hovered ? POINT_RADIUS + 2 : POINT_RADIUS;
  context.beginPath();
  context.arc(x, y, radius, 0, 2 * Math.PI);
  context.fillStyle = label ? POSITIVE : NEGATIVE;
  context.fill();
  context.lineWidth = 2;
  context.strokeStyle = '#fff';
  context.stroke();
  // The sign tells them apart without their colour.
  context.beginPath();
  context.moveTo(x - 3, y);
  context.lineTo(x + 3, y);
  if (label) {
    context.moveTo(x, y - 3);
    context.lineTo(x, y + 3);
  }
  context.lineWidth = 1.75;
  context.stroke();
}

function drawDot(context: Context, x: number, y: number, color: string): void {
  context.beginPath();
  context.arc(x, y, SMALL_RADIUS, 0, 2 * Math.PI);
  context.fillStyle = color;
  context.fill();
  context.lineWidth = 1;
  context.strokeStyle = '#fff';
  context.stroke();
}

export function drawBox(
  context: Context,
  x0: number,
  y0: number,
  x1: number,
  y1: number,
  color: string,
  strong: boolean,
): void {
  context.lineWidth = strong ? 4 : 2.5;
  context.strokeStyle = 'rgb(255 255 255 / 0.85)';
  context.strokeRect(x0, y0, x1 - x0, y1 - y0);
  context.lineWidth = strong ? 2 : 1;
  context.strokeStyle = color;
  context.strokeRect(x0, y0, x1 - x0, y1 - y0);
}

function drawHandle(context: Context, x: number, y: number, color: string): void {
  context.fillStyle = '#fff';
  context.strokeStyle = color;
  context.lineWidth = 2;
  context.beginPath();
  context.rect(x - HANDLE_RADIUS + 1, y - HANDLE_RADIUS + 1, 2 * HANDLE_RADIUS - 2, 2 * HANDLE_RADIUS - 2);
  context.fill();
  context.stroke();
}

/** A line that is seen on dark and on light pictures. */
export function strokeTwice(context: Context, dashed = false): void {
  context.setLineDash([]);
  context.lineWidth = 3;
  context.strokeStyle = 'rgb(0 0 0 / 0.55)';
  context.stroke();
  context.setLineDash(dashed ? [5, 4] : []);
  context.lineWidth = 1.25;
  context.strokeStyle = '#fff';
  context.stroke();
  context.setLineDash([]);
}

function drawCursor(context: Context, stage: Stage): void {
  const { value: pointer } = store.pointerPosition;
  const { value: tool } = store.tool;
  if (pointer && (tool === 'brush' || tool === 'eraser')) {
    const [x, y] = stage.toCanvas(...pointer);
    context.beginPath();
    context.arc(x, y, Math.max(1, store.brushRadius.value * store.view.value.scale), 0, 2 * Math.PI);
    strokeTwice(context, tool === 'eraser');
  }
  if (store.crosshair.value) {
    const [x, y] = stage.toCanvas(...store.crosshair.value);
    const { width, height } = commands.canvasSize;
    context.beginPath();
    context.moveTo(0, y);
    context.lineTo(x - 8, y);
    context.moveTo(x + 8, y);
    context.lineTo(width, y);
    context.moveTo(x, 0);
    context.lineTo(x, y - 8);
    context.moveTo(x, y + 8);
    context.lineTo(x, height);
    context.moveTo(x + 8, y);
    context.arc(x, y, 8, 0, 2 * Math.PI);
    strokeTwice(context);
  }
}
