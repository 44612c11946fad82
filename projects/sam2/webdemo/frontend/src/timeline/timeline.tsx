// The time line: a row for each object with its presence score, prompts and locks, pictures
// of the video above, and the buttons that track.
//
// The axis is shared: ruler, filmstrip and rows are drawn for the same `Axis`. The rows are
// one canvas that stays in view while the list scrolls below it.
import { useComputed, useSignal, useSignalEffect, type Signal } from '@preact/signals';
import { useEffect, useRef } from 'preact/hooks';

import { thumbUrl } from '../api';
import * as commands from '../commands';
import type { AnnotatedObject } from '../protocol';
import * as store from '../store';
import { IconButton, Swatch } from '../ui/controls';
import { Icon } from '../ui/icons';
import { isDark } from '../ui/theme';
import {
  type Axis,
  clampAxis,
  dragRange,
  filmstrip,
  frameToX,
  frameWidth,
  fullAxis,
  panAxis,
  revealFrame,
  visibleRows,
  xToFrame,
  zoomAxis,
} from './geometry';
import { paintRows, paintRuler, readColors } from './row-painter';
import { TimelineBar } from './timeline-bar';

const STRIP_HEIGHT = 44;
const LEAST_HEIGHT = 40;
/** The width of a wheel's step when one zooms. */
const WHEEL_ZOOM = 0.0025;

export function Timeline() {
  const axis = useSignal<Axis>(fullAxis(1, 1));
  const height = useSignal(124);
  const gutter = useSignal(0);
  const choosingRange = useSignal(false);

  useSignalEffect(() => {
    const numFrames = store.numFrames.value;
    if (axis.peek().numFrames !== numFrames) axis.value = fullAxis(axis.peek().width, numFrames);
  });
  // The play head stays in view, however one moves in time.
  useSignalEffect(() => {
    axis.value = revealFrame(axis.peek(), store.currentFrame.value);
  });

  const seek = useScrubbing(axis, choosingRange);
  return (
    <section class="timeline" aria-label="Time line" data-testid="timeline">
      <ResizeHandle height={height} />
      <TimelineBar axis={axis} choosingRange={choosingRange} />
      <div class="timeline-grid" style={{ paddingRight: `${gutter.value}px` }}>
        <Corner />
        <Ruler axis={axis} seek={seek} />
        <Filmstrip axis={axis} seek={seek} />
      </div>
      <Rows axis={axis} height={height} gutter={gutter} seek={seek} />
    </section>
  );
}

/** Left of the ruler: the running pass and its stop button, else the range or the frame. */
function Corner() {
  const pass = store.pass.value;
  const range = store.rangeSelection.value;
  if (pass?.state === 'running') {
    return (
      <div class="timeline-corner pass-status" data-testid="pass" data-state="running">
        <span class="truncate" title={pass.label}>
          {pass.label}
        </span>
        <IconButton icon="stop" label={`Stop: ${pass.label}`} testId="pass-cancel" onClick={() => void commands.cancelPass()} />
        <progress max={pass.total || 1} value={pass.done} aria-label={`${pass.label}: ${pass.done} of ${pass.total} frames`} />
        <span class="muted number">
          {pass.done} / {pass.total}
        </span>
      </div>
    );
  }
  return (
    <div class="timeline-corner muted number" data-testid="pass" data-state={pass?.state ?? 'none'}>
      {range ? `${range[0]} – ${range[1] - 1}` : `Frame ${store.currentFrame.value}`}
    </div>
  );
}

/** Pointer handlers that move the play head, or choose a range with Shift. */
function useScrubbing(axis: Signal<Axis>, choosingRange: Signal<boolean>) {
  const anchor = useRef<number | null>(null);
  const frameOf = (event: PointerEvent) => {
    const { left } = (event.currentTarget as HTMLElement).getBoundingClientRect();
    return xToFrame(axis.value, event.clientX - left);
  };
  const move = (frame: number) => {
    if (anchor.current !== null) store.rangeSelection.value = dragRange(anchor.current, frame);
    commands.seek(frame);
  };
  const end = () => {
    anchor.current = null;
    choosingRange.value = false;
  };
  return {
    onPointerUp: end,
    onPointerCancel: end,
    onPointerDown: (event: PointerEvent) => {
      if (event.button !== 0) return;
      (event.currentTarget as HTMLElement).setPointerCapture(event.pointerId);
      store.playing.value = false;
      const frame = frameOf(event);
      anchor.current = event.shiftKey || choosingRange.value ? frame : null;
      move(frame);
    },
    onPointerMove: (event: PointerEvent) => {
      const element = event.currentTarget as HTMLElement;
      if (element.hasPointerCapture(event.pointerId)) move(frameOf(event));
    },
  };
}
type Scrubbing = ReturnType<typeof useScrubbing>;

/** Zooms with Ctrl, pans sideways; a plain wheel scrolls the rows as usual. */
function useWheel(element: { current: HTMLElement | null }, axis: Signal<Axis>) {
  useEffect(() => {
    const target = element.current!;
    const onWheel = (event: WheelEvent) => {
      const sideways = Math.abs(event.deltaX) > Math.abs(event.deltaY);
      if (event.ctrlKey || event.metaKey) {
        const x = event.clientX - target.getBoundingClientRect().left;
        axis.value = zoomAxis(axis.value, Math.exp(-event.deltaY * WHEEL_ZOOM), x);
      } else if (sideways || event.shiftKey) {
        axis.value = panAxis(axis.value, sideways ? event.deltaX : event.deltaY);
      } else return;
      event.preventDefault();
    };
    // Preact's own listener is passive in some browsers, and could not keep the page still.
    target.addEventListener('wheel', onWheel, { passive: false });
    return () => target.removeEventListener('wheel', onWheel);
  }, []);
}

/** Gives a canvas the size of its box in device pixels; calls `paint` once a frame. */
function useCanvas(
  canvas: { current: HTMLCanvasElement | null },
  size: () => readonly [width: number, height: number],
  paint: (context: CanvasRenderingContext2D) => void,
) {
  const pending = useRef(0);
  useEffect(() => () => cancelAnimationFrame(pending.current), []);
  return () => {
    cancelAnimationFrame(pending.current);
    pending.current = requestAnimationFrame(() => {
      const element = canvas.current;
      if (!element) return;
      const [width, height] = size();
      const ratio = window.devicePixelRatio;
      const [pixelWidth, pixelHeight] = [Math.round(width * ratio), Math.round(height * ratio)];
      if (element.width !== pixelWidth) element.width = pixelWidth;
      if (element.height !== pixelHeight) element.height = pixelHeight;
      const context = element.getContext('2d')!;
      context.setTransform(ratio, 0, 0, ratio, 0, 0);
      paint(context);
    });
  };
}

function Ruler({ axis, seek }: { axis: Signal<Axis>; seek: Scrubbing }) {
  const box = useRef<HTMLDivElement>(null);
  const canvas = useRef<HTMLCanvasElement>(null);
  const paint = useCanvas(
    canvas,
    () => [axis.value.width, box.current!.clientHeight],
    (context) =>
      paintRuler(
        context,
        axis.value,
        box.current!.clientHeight,
        store.rangeSelection.value,
        store.brokenFrames.value,
        readColors(box.current!),
      ),
  );
  useSignalEffect(() => {
    axis.value;
    store.rangeSelection.value;
    store.brokenFrames.value;
    isDark.value;
    paint();
  });
  useWheel(box, axis);
  useEffect(() => {
    const observer = new ResizeObserver(([entry]) => {
      const { width } = entry!.contentRect;
      const old = axis.peek();
      const whole = old.span >= old.numFrames;
      axis.value = whole ? fullAxis(width, old.numFrames) : clampAxis({ ...old, width });
    });
    observer.observe(box.current!);
    return () => observer.disconnect();
  }, []);
  const frame = store.currentFrame.value;
  const last = Math.max(0, store.numFrames.value - 1);
  return (
    <div
      ref={box}
      class="timeline-ruler"
      role="slider"
      tabIndex={0}
      aria-label="Frame; with Shift the arrow keys choose a range"
      aria-valuemin={0}
      aria-valuemax={last}
      aria-valuenow={frame}
      aria-valuetext={`Frame ${frame} of ${last}`}
      data-testid="timeline-ruler"
      onKeyDown={moveByKey}
      {...seek}
    >
      <canvas ref={canvas} aria-hidden="true" />
      <Playhead axis={axis} />
    </div>
  );
}

function moveByKey(event: KeyboardEvent) {
  const now = store.currentFrame.value;
  const last = store.numFrames.value - 1;
  const targets: Readonly<Record<string, number>> = {
    ArrowLeft: now - 1,
    ArrowDown: now - 1,
    ArrowRight: now + 1,
    ArrowUp: now + 1,
    PageDown: now - 10,
    PageUp: now + 10,
    Home: 0,
    End: last,
  };
  const target = targets[event.key];
  if (target === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  event.stopPropagation();
  const frame = Math.max(0, Math.min(last, target));
  if (event.shiftKey) {
    const range = store.rangeSelection.value;
    // The end that is not at the play head stays.
    const anchor = !range ? now : range[0] === now ? range[1] - 1 : range[0];
    store.rangeSelection.value = dragRange(anchor, frame);
  }
  commands.seek(frame);
}

/** A line at the current frame; it moves without drawing anything again. */
function Playhead({ axis }: { axis: Signal<Axis> }) {
  const line = useRef<HTMLDivElement>(null);
  useSignalEffect(() => {
    const frame = store.currentFrame.value;
    const x = frameToX(axis.value, frame);
    const element = line.current!;
    element.style.transform = `translateX(${x + frameWidth(axis.value) / 2}px)`;
    element.hidden = x < -1 || x > axis.value.width;
  });
  return <div ref={line} class="playhead" aria-hidden="true" />;
}

function Filmstrip({ axis, seek }: { axis: Signal<Axis>; seek: Scrubbing }) {
  const box = useRef<HTMLDivElement>(null);
  useWheel(box, axis);
  const session = store.session.value;
  const [height, width] = store.sizeOf(0);
  const thumbWidth = height ? Math.max(24, (STRIP_HEIGHT * width) / height) : 78;
  return (
    <div ref={box} class="timeline-strip" data-testid="filmstrip" {...seek}>
      {session &&
        filmstrip(axis.value, thumbWidth).map((thumb) => (
          <img
            key={thumb.frame}
            alt=""
            draggable={false}
            decoding="async"
            src={thumbUrl(session.id, session.key, thumb.frame)}
            // A broken frame has no picture.
            onError={(event) => (event.currentTarget.hidden = true)}
            style={{ left: `${thumb.x}px`, width: `${thumb.width}px` }}
          />
        ))}
      <Playhead axis={axis} />
    </div>
  );
}

interface RowsProps {
  axis: Signal<Axis>;
  height: Signal<number>;
  gutter: Signal<number>;
  seek: Scrubbing;
}

function Rows({ axis, height, gutter, seek }: RowsProps) {
  const scroller = useRef<HTMLDivElement>(null);
  const tracks = useRef<HTMLDivElement>(null);
  const canvas = useRef<HTMLCanvasElement>(null);
  const scrollTop = useSignal(0);
  const rowHeight = useSignal(30);
  const visible = useComputed(() =>
    visibleRows(scrollTop.value, height.value, rowHeight.value, store.objectList.value.length),
  );
  const paint = useCanvas(
    canvas,
    () => [axis.value.width, height.value],
    (context) => {
      const [first, stop] = visible.value;
      const rows = store.objectList.value.slice(first, stop).map((object) => ({
        object,
        scores: store.scoresOf(object.id),
        selected: store.selection.value.has(object.id),
      }));
      const scene = {
        axis: axis.value,
        rows,
        rowHeight: rowHeight.value,
        scrollTop: scrollTop.value,
        height: height.value,
        firstRow: first,
        brokenFrames: store.brokenFrames.value,
        range: store.rangeSelection.value,
        isLow: store.isLowScore,
      };
      paintRows(context, scene, readColors(tracks.current!));
    },
  );
  useSignalEffect(() => {
    axis.value;
    height.value;
    scrollTop.value;
    rowHeight.value;
    store.objects.value;
    store.selection.value;
    store.scoresRevision.value;
    store.brokenFrames.value;
    store.rangeSelection.value;
    store.lowScore.value;
    isDark.value;
    paint();
  });
  useWheel(tracks, axis);
  useEffect(() => {
    const element = scroller.current!;
    const measure = () => {
      rowHeight.value = parseFloat(getComputedStyle(element).getPropertyValue('--track-row'));
      gutter.value = element.offsetWidth - element.clientWidth;
    };
    const observer = new ResizeObserver(measure);
    observer.observe(element);
    return () => observer.disconnect();
  }, []);
  // The row of the active object is brought into view.
  useSignalEffect(() => {
    const index = store.objectList.value.findIndex((object) => object.id === store.activeObject.value);
    const element = scroller.current!;
    const top = index * rowHeight.value;
    if (index < 0) return;
    if (top < element.scrollTop) element.scrollTop = top;
    const bottom = top + rowHeight.value - height.value;
    if (bottom > element.scrollTop) element.scrollTop = bottom;
  });

  const [first, stop] = visible.value;
  const objects = store.objectList.value;
  const selectRow = (event: PointerEvent) => {
    seek.onPointerDown(event);
    const { top } = event.currentTarget instanceof HTMLElement
      ? event.currentTarget.getBoundingClientRect()
      : { top: 0 };
    const row = objects[Math.floor((event.clientY - top + scrollTop.value) / rowHeight.value)];
    if (row && event.button === 0 && !store.selection.value.has(row.id)) {
      commands.selectObject(row.id);
    }
  };
  return (
    <div
      ref={scroller}
      class="timeline-body"
      style={{ height: `${height.value}px` }}
      onScroll={(event) => (scrollTop.value = event.currentTarget.scrollTop)}
    >
      <div class="timeline-rows" style={{ height: `${objects.length * rowHeight.value}px` }}>
        <div
          ref={tracks}
          class="timeline-tracks"
          style={{ height: `${height.value}px` }}
          data-testid="timeline-tracks"
          {...seek}
          onPointerDown={selectRow}
        >
          <canvas ref={canvas} aria-hidden="true" />
          <PassMarker axis={axis} />
          <Playhead axis={axis} />
          {!objects.length && (
            <p class="timeline-empty">
              The presence score of each object appears here. Drag with Shift to choose a range.
            </p>
          )}
        </div>
        {objects.slice(first, stop).map((object, index) => (
          <TrackHead key={object.id} object={object} top={(first + index) * rowHeight.value} />
        ))}
      </div>
    </div>
  );
}

/** The name of a row; while its object is tracked also how far that is, and a stop button. */
function TrackHead({ object, top }: { object: AnnotatedObject; top: number }) {
  const pass = store.pass.value;
  const tracked = pass?.state === 'running' && pass.objects.includes(object.id);
  return (
    <div class="track-head" style={{ top: `${top}px` }}>
      <button
        type="button"
        aria-pressed={store.selection.value.has(object.id)}
        title={object.name}
        data-testid="track-head"
        data-object={object.id}
        onClick={(event) =>
          commands.selectObject(
            object.id,
            event.ctrlKey || event.metaKey ? 'toggle' : event.shiftKey ? 'range' : 'only',
          )
        }
      >
        <Swatch color={object.color} />
        <span class="truncate grow">{object.name}</span>
        {object.hidden && <Icon name="eyeOff" />}
        {object.locked && <Icon name="lock" />}
      </button>
      {tracked && (
        <>
          <IconButton icon="stop" label={`Stop tracking ${object.name}`} testId="track-stop" onClick={() => void commands.cancelPass()} />
          <progress max={pass.total || 1} value={pass.done} aria-label={`Tracking ${object.name}`} data-testid="track-progress" data-object={object.id} />
        </>
      )}
    </div>
  );
}

/** Where the running pass is. */
function PassMarker({ axis }: { axis: Signal<Axis> }) {
  const pass = store.pass.value;
  if (pass?.state !== 'running' || pass.frame === null) return null;
  const x = frameToX(axis.value, pass.frame + 0.5);
  if (x < 0 || x > axis.value.width) return null;
  return <div class="pass-marker" style={{ transform: `translateX(${x}px)` }} data-testid="pass-marker" />;
}

/** The upper edge, which changes the height of the rows: by dragging or the arrow keys. */
function ResizeHandle({ height }: { height: Signal<number> }) {
  const limit = (value: number) =>
    Math.round(Math.max(LEAST_HEIGHT, Math.min(window.innerHeight * 0.6, value)));
  return (
    <div
      class="timeline-resize"
      role="separator"
      tabIndex={0}
      aria-orientation="horizontal"
      aria-label="Height of the time line"
      aria-valuenow={height.value}
      aria-valuemin={LEAST_HEIGHT}
      data-testid="timeline-resize"
      onPointerDown={(event) => event.currentTarget.setPointerCapture(event.pointerId)}
      onPointerMove={(event) => {
        if (event.currentTarget.hasPointerCapture(event.pointerId)) {
          height.value = limit(height.value - event.movementY);
        }
      }}
      onKeyDown={(event) => {
        const step = { ArrowUp: 20, ArrowDown: -20 }[event.key];
        if (step === undefined) return;
        event.preventDefault();
        event.stopPropagation();
        height.value = limit(height.value + step);
      }}
    />
  );
}
