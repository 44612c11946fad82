// Pointer and keyboard on the canvas: panning, zooming and selecting work with every tool;
// the rest goes to the tool in use.
import * as commands from '../commands';
import { isMac } from '../shortcuts';
import * as store from '../store';
import type { Stage } from '../viewer/stage';
import { handleAt, startBox } from './box';
import { startBrush, startEraser } from './brush';
import { clampToFrame, editableFrame } from './gesture';
import type { Gesture, PointerInfo, StartGesture } from './gesture';
import { startLasso } from './lasso';
import { pointAt, startPoint } from './points';

const STARTS: Partial<Record<store.ToolName, StartGesture>> = {
  point: startPoint,
  box: startBox,
  brush: startBrush,
  eraser: startEraser,
  lasso: startLasso,
};
const BOX_CURSORS = [
  'nwse-resize', 'ns-resize', 'nesw-resize', 'ew-resize',
  'nwse-resize', 'ns-resize', 'nesw-resize', 'ew-resize',
];
const WHEEL_STEP = 0.0015;
const PINCH_STEP = 0.01;
const LINE_PIXELS = 16;
const MIDDLE = 1;
const RIGHT = 2;

/** Attaches the tools to a stage; returns the function that detaches them. */
export function attachPointer(stage: Stage): () => void {
  const { container } = stage;
  const fingers = new Map<number, { x: number; y: number }>();
  let gesture: Gesture | null = null;
  let panning: { x: number; y: number } | null = null;

  const setGesture = (next: Gesture | null) => {
    gesture = next;
    stage.gesture = next;
    stage.requestRender();
  };

  const locate = (event: PointerEvent | MouseEvent): PointerInfo => {
    const rectangle = container.getBoundingClientRect();
    const canvasX = event.clientX - rectangle.left;
    const canvasY = event.clientY - rectangle.top;
    const [x, y] = stage.toFrame(canvasX, canvasY);
    return {
      x,
      y,
      canvasX,
      canvasY,
      alt: event.altKey,
      shift: event.shiftKey,
      mod: isMac ? event.metaKey : event.ctrlKey,
      secondary: event.button === RIGHT || (isMac && event.ctrlKey),
    };
  };

  /** Selects what is under the pointer; again, what lies below it. */
  const select = (pointer: PointerInfo) => {
    const objects = stage.masks.objectsAt(pointer.x, pointer.y);
    const active = store.activeObject.value;
    const below = objects[(objects.indexOf(active ?? -1) + 1) % (objects.length || 1)];
    store.hoveredObject.value = null;
    if (below !== undefined) commands.selectObject(below, pointer.shift ? 'toggle' : 'only');
    else if (!pointer.shift) commands.newObject();
  };

  const onDown = (event: PointerEvent) => {
    container.focus({ preventScroll: true });
    const pointer = locate(event);
    container.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, { x: pointer.canvasX, y: pointer.canvasY });
    if (fingers.size === 2) {
      // The first finger of a pinch has drawn nothing.
      gesture?.cancel();
      setGesture(null);
      return;
    }
    if (fingers.size > 2) return;
    const pan = event.button === MIDDLE || store.panKey.value || store.tool.value === 'hand';
    if (pan) {
      panning = { x: pointer.canvasX, y: pointer.canvasY };
      if (store.panKey.value) store.panKey.value = 'used';
      updateCursor(pointer);
      return;
    }
    // A tool acts on the frame that is seen, not on the one that is still loading.
    store.playing.value = false;
    const shown = store.shownFrame.value;
    if (shown === null) return;
    commands.seek(shown);
    const proposal = stage.masks.proposalAt(pointer.x, pointer.y);
    if (store.proposals.value?.frame === shown) {
      if (proposal !== null) commands.toggleProposal(proposal);
      return;
    }
    if (store.tool.value === 'select' || pointer.mod) {
      select(pointer);
      return;
    }
    setGesture(STARTS[store.tool.value]?.(stage, pointer) ?? null);
  };

  const onMove = (event: PointerEvent) => {
    const pointer = locate(event);
    const finger = fingers.get(event.pointerId);
    if (fingers.size === 2 && finger) {
      pinch(event.pointerId, finger, pointer);
      return;
    }
    if (finger) fingers.set(event.pointerId, { x: pointer.canvasX, y: pointer.canvasY });
    if (panning) {
      commands.panBy(pointer.canvasX - panning.x, pointer.canvasY - panning.y);
      panning = { x: pointer.canvasX, y: pointer.canvasY };
      return;
    }
    if (gesture) {
      // The browser joins quick moves; a stroke wants all of them.
      const events = event.getCoalescedEvents?.() ?? [];
      for (const part of events.length ? events : [event]) gesture.move(locate(part));
      stage.requestRender();
    }
    store.pointerPosition.value = isInside(pointer) ? [pointer.x, pointer.y] : null;
    if (!gesture) hover(pointer);
  };

  const pinch = (id: number, old: { x: number; y: number }, pointer: PointerInfo) => {
    const other = [...fingers].find(([key]) => key !== id)![1];
    const now = { x: pointer.canvasX, y: pointer.canvasY };
    const before = Math.hypot(old.x - other.x, old.y - other.y);
    const after = Math.hypot(now.x - other.x, now.y - other.y);
    commands.panBy((now.x - old.x) / 2, (now.y - old.y) / 2);
    if (before > 0) commands.zoomBy(after / before, (now.x + other.x) / 2, (now.y + other.y) / 2);
    fingers.set(id, now);
  };

  const onUp = (event: PointerEvent) => {
    fingers.delete(event.pointerId);
    panning = null;
    if (!gesture) return;
    const finished = gesture;
    setGesture(null);
    finished.up(locate(event));
  };

  const onCancel = (event: PointerEvent) => {
    fingers.delete(event.pointerId);
    panning = null;
    gesture?.cancel();
    setGesture(null);
  };

  const onLeave = () => {
    store.pointerPosition.value = null;
    store.hoveredObject.value = null;
    store.hoveredPoint.value = null;
    store.hoveredProposal.value = null;
  };

  const hover = (pointer: PointerInfo) => {
    const point = pointAt(stage, pointer);
    const known = store.hoveredPoint.value;
    if (point?.index !== known?.index || point?.object !== known?.object) {
      store.hoveredPoint.value = point;
    }
    if (store.proposals.value) store.hoveredProposal.value = stage.masks.proposalAt(pointer.x, pointer.y);
    const selects = store.tool.value === 'select' || pointer.mod;
    store.hoveredObject.value = selects ? (stage.masks.objectsAt(pointer.x, pointer.y)[0] ?? null) : null;
    updateCursor(pointer);
  };

  const updateCursor = (pointer: PointerInfo) => {
    const { value: tool } = store.tool;
    const handle = tool === 'box' ? handleAt(stage, pointer) : -1;
    container.style.cursor = panning
      ? 'grabbing'
      : tool === 'hand' || store.panKey.value
        ? 'grab'
        : store.proposals.value || tool === 'select' || pointer.mod
          ? 'pointer'
          : store.hoveredPoint.value && tool === 'point'
            ? 'move'
            : handle >= 0
              ? BOX_CURSORS[handle]!
              : tool === 'brush' || tool === 'eraser'
                ? 'none'
                : 'crosshair';
  };

  const onWheel = (event: WheelEvent) => {
    event.preventDefault();
    const { canvasX, canvasY } = locate(event);
    const pixels = event.deltaY * (event.deltaMode === WheelEvent.DOM_DELTA_LINE ? LINE_PIXELS : 1);
    // A pinch on a track pad comes as a wheel with Ctrl.
    const step = event.ctrlKey ? PINCH_STEP : WHEEL_STEP;
    commands.zoomBy(Math.exp(-pixels * step), canvasX, canvasY);
  };

  const onKey = (event: KeyboardEvent) => {
    if (event.key === 'Escape' && gesture) {
      gesture.cancel();
      setGesture(null);
      event.preventDefault();
      return;
    }
    const { crosshair } = store;
    if (!crosshair.value) return;
    const length = event.shiftKey ? 10 : 1;
    const moves: Record<string, readonly [number, number]> = {
      ArrowLeft: [-length, 0],
      ArrowRight: [length, 0],
      ArrowUp: [0, -length],
      ArrowDown: [0, length],
    };
    const move = moves[event.key];
    if (move) {
      crosshair.value = clampToFrame(crosshair.value[0] + move[0], crosshair.value[1] + move[1]);
      event.preventDefault();
    } else if (event.key === 'Enter' && store.shownFrame.value !== null) {
      const frame = editableFrame();
      const [x, y] = clampToFrame(...crosshair.value);
      if (frame !== null) void commands.addPoint(frame, [x, y, event.altKey ? 0 : 1]);
      event.preventDefault();
    }
  };

  const isInside = ({ x, y }: PointerInfo) => {
    const [height, width] = store.sizeOf(store.shownFrame.value ?? 0);
    return x >= -0.5 && y >= -0.5 && x < width - 0.5 && y < height - 0.5;
  };

  const noMenu = (event: Event) => event.preventDefault();
  const listeners: [string, (event: never) => void, AddEventListenerOptions?][] = [
    ['pointerdown', onDown],
    ['pointermove', onMove],
    ['pointerup', onUp],
    ['pointercancel', onCancel],
    ['pointerleave', onLeave],
    ['wheel', onWheel, { passive: false }],
    ['keydown', onKey],
    ['contextmenu', noMenu],
  ];
  for (const [type, listener, options] of listeners) {
    container.addEventListener(type, listener as EventListener, options);
  }
  return () => {
    for (const [type, listener] of listeners) {
      container.removeEventListener(type, listener as EventListener);
    }
  };
}
