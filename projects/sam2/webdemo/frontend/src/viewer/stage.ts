// What is on the canvas: it loads the pictures and masks of the frame that the user goes
// to, puts them into a scene, and has it drawn when something changed.
import { batch, effect, untracked } from '@preact/signals';

import { frameUrl } from '../api';
import * as commands from '../commands';
import { decode, encode } from '../rle';
import * as store from '../store';
import { CanvasRenderer } from './canvas2d';
import { FrameCache } from './frame-cache';
import { drawMarks } from './marks';
import { MaskEdit } from './mask-edit';
import type { Columns } from './mask-edit';
import { MaskLayer } from './mask-layer';
import { play } from './player';
import type { Renderer, Scene } from './scene';
import { createWebglRenderer } from './webgl';

/** How long a picture waits for its masks, so that they do not flicker. */
const MASK_PATIENCE_MS = 80;
/** Neighbours are loaded once the play head rests. */
const REST_MS = 120;
const NEIGHBOURS = 8;

/** Something that a tool draws over the frame while it works. */
export interface Drawable {
  draw(context: CanvasRenderingContext2D, stage: Stage): void;
}

export class Stage {
  renderer: Renderer;
  readonly masks = new MaskLayer();
  frames: FrameCache | null = null;
  /** What the tool in use draws over the frame. */
  gesture: Drawable | null = null;
  /** Frames that the play head was on since the shown one, in order. */
  private targets: number[] = [];
  private maskTimer = 0;
  private restTimer = 0;
  private request = 0;
  private readonly shownTimes: number[] = [];
  private readonly disposers: (() => void)[] = [];

  constructor(
    readonly container: HTMLElement,
    private canvas: HTMLCanvasElement,
    private readonly marks: HTMLCanvasElement,
  ) {
    this.renderer = this.createRenderer();
    this.watch();
  }

  dispose(): void {
    for (const dispose of this.disposers) dispose();
    cancelAnimationFrame(this.request);
    window.clearTimeout(this.maskTimer);
    window.clearTimeout(this.restTimer);
    this.frames?.close();
    this.renderer.dispose();
  }

  // ------------------------------------------------------------------ coordinates

  /** Pixels of the frame (integers are centres of pixels) from CSS pixels of the canvas. */
  toFrame(x: number, y: number): [x: number, y: number] {
    const { view } = store;
    return [
      (x - view.value.x) / view.value.scale - 0.5,
      (y - view.value.y) / view.value.scale - 0.5,
    ];
  }

  toCanvas(x: number, y: number): [x: number, y: number] {
    const { view } = store;
    return [
      view.value.x + (x + 0.5) * view.value.scale,
      view.value.y + (y + 0.5) * view.value.scale,
    ];
  }

  // ----------------------------------------------------------------------- frames

  /** Whether a frame can be shown with its masks at once. */
  isReady(frame: number): boolean {
    if (this.frames?.error(frame)) return true;
    return this.frames?.has(frame) === true && commands.maskCache.get(frame) !== null;
  }

  /** Loads frames and masks, the most urgent first. */
  want(frames: readonly number[]): void {
    this.frames?.want(frames);
    commands.wantMasks(frames);
  }

  private goTo(frame: number): void {
    window.clearTimeout(this.maskTimer);
    this.maskTimer = 0;
    if (store.playing.value && this.isReady(frame)) {
      this.show(frame);
      return;
    }
    this.targets.push(frame);
    this.want([frame]);
    window.clearTimeout(this.restTimer);
    this.restTimer = window.setTimeout(() => this.want(this.neighbourhood(frame)), REST_MS);
    this.tryShow(frame);
  }

  private neighbourhood(frame: number): number[] {
    const [height, width] = store.sizeOf(frame);
    const count = Math.min(NEIGHBOURS, (this.frames?.capacity(height, width) ?? 1) / 2);
    const frames = [frame];
    for (let i = 1; i <= count; i += 1) frames.push(frame + i, frame - i);
    return frames.filter((other) => other >= 0 && other < store.numFrames.value);
  }

  private tryShow(frame: number): void {
    if (this.frames?.error(frame)) {
      this.show(frame);
      return;
    }
    if (!this.frames?.has(frame)) return;
    if (commands.maskCache.get(frame) || store.connectionState.value !== 'connected') {
      this.show(frame);
    } else if (!this.maskTimer) {
      this.maskTimer = window.setTimeout(() => {
        this.maskTimer = 0;
        if (store.currentFrame.value === frame) this.show(frame);
      }, MASK_PATIENCE_MS);
    }
  }

  /**
   * A picture or masks have come. During a scrub the newest frame on the way is shown as
   * soon as it is complete, though the play head has moved on.
   */
  private readonly onArrival = (frame: number): void => {
    const current = store.currentFrame.value;
    if (frame === store.shownFrame.value) this.requestRender();
    if (frame === current) {
      if (store.shownFrame.value !== frame) this.tryShow(frame);
    } else if (store.shownFrame.value !== current && !store.playing.value) {
      const order = this.targets.lastIndexOf(frame);
      const shown = this.targets.lastIndexOf(store.shownFrame.value ?? -1);
      if (order > shown && this.isReady(frame)) this.show(frame);
    }
  };

  private show(frame: number): void {
    if (this.frames) this.frames.shown = frame;
    // What the play head passed before this frame is not shown any more.
    this.targets = this.targets.slice(this.targets.lastIndexOf(frame));
    batch(() => {
      const before = store.shownFrame.value;
      store.shownFrame.value = frame;
      store.frameError.value = this.frames?.error(frame) ?? null;
      const sizes = [store.sizeOf(frame), before === null ? [] : store.sizeOf(before)];
      if (`${sizes[0]}` !== `${sizes[1]}`) {
        commands.resizeView(commands.canvasSize.width, commands.canvasSize.height);
      }
    });
    this.shownTimes.push(performance.now());
    if (this.shownTimes.length > 120) this.shownTimes.shift();
    this.requestRender();
  }

  /** Frames shown in the last second. */
  framesPerSecond(): number {
    const since = performance.now() - 1000;
    return this.shownTimes.filter((time) => time > since).length;
  }

  // ---------------------------------------------------------------------- drawing

  requestRender(): void {
    if (!this.request) this.request = requestAnimationFrame(() => this.render());
  }

  get isDrawn(): boolean {
    return this.request === 0;
  }

  private render(): void {
    this.request = 0;
    untracked(() => {
      const scene = this.scene();
      if (scene) this.renderer.render(scene);
      // A canvas of another size is empty.
      else this.canvas.width = this.canvas.width;
      drawMarks(this.marks, this);
    });
  }

  private scene(): Scene | null {
    const frame = store.shownFrame.value;
    const bitmap = frame === null ? null : this.frames?.get(frame);
    if (frame === null || !bitmap) return null;
    const [height, width] = store.sizeOf(frame);
    const { masks } = this;
    masks.update(frame, height, width);
    return {
      bitmap,
      height,
      width,
      // Without masks an effect on the background would cover everything: it is off.
      labels: store.showMasks.value && masks.labels.slots.length > 1 ? masks.labels : null,
      labelsVersion: masks.version,
      slots: masks.slots(frame),
      effect: masks.proposalsOf(frame) ? store.DEFAULT_EFFECT : store.effect.value,
      brightness: store.brightness.value,
      contrast: store.contrast.value,
      view: store.view.value,
      canvasHeight: commands.canvasSize.height,
      canvasWidth: commands.canvasSize.width,
      pixelRatio: window.devicePixelRatio || 1,
    };
  }

  // ---------------------------------------------------------------- drawing masks

  /**
   * Begins to draw on the mask of the active object on the shown frame.
   *
   * A stroke that follows before the server answered goes on with the drawn mask.
   */
  beginEdit(): MaskEdit | null {
    const frame = store.shownFrame.value;
    if (frame === null) return null;
    const object = store.activeObject.value;
    const { edit } = this.masks;
    if (edit?.frame === frame && edit.object === object) {
      edit.isDrawing = true;
      return edit;
    }
    const message = commands.maskCache.get(frame);
    if (!message || !commands.maskCache.isFresh(frame)) {
      commands.notify('info', 'The masks of this frame are still loading: try again.');
      return null;
    }
    const [height, width] = store.sizeOf(frame);
    const entry = message.entries.find((candidate) => candidate.object === object);
    const mask = entry ? decode(entry.counts, height, width) : new Uint8Array(height * width);
    const started = new MaskEdit(frame, object, height, width, mask);
    this.masks.edit = started;
    this.requestRender();
    return started;
  }

  /** Columns of the drawn mask changed. */
  updateEdit(edit: MaskEdit, [start, stop]: Columns): void {
    const { masks } = this;
    if (masks.edit !== edit || start >= stop) return;
    const scene = this.scene();
    if (scene && masks.repaint(edit, [start, stop])) {
      const changed = { ...scene, labels: masks.labels, labelsVersion: masks.version };
      this.renderer.updateColumns(changed, start, stop);
    }
    this.requestRender();
  }

  /** Sends the drawn mask; it stays on screen until the server has answered. */
  async commitEdit(edit: MaskEdit): Promise<void> {
    edit.isDrawing = false;
    edit.numSent += 1;
    const reply = await commands.drawMask(
      edit.frame,
      [edit.height, edit.width],
      encode(edit.mask),
    );
    edit.numSent -= 1;
    if (edit.object === null && reply?.object !== undefined) edit.object = reply.object;
    if (!reply || (!edit.numSent && !edit.isDrawing)) this.cancelEdit(edit);
  }

  /** Forgets the drawn mask: the server's is shown. */
  cancelEdit(edit: MaskEdit): void {
    if (this.masks.edit === edit) this.masks.edit = null;
    this.requestRender();
  }

  // --------------------------------------------------------------------- watching

  private watch(): void {
    const onMasks = (frame: number) => {
      const { maskCache, addWantedMask } = commands;
      if (frame === store.currentFrame.value && !maskCache.isFresh(frame)) addWantedMask(frame);
      this.onArrival(frame);
    };
    commands.maskListeners.add(onMasks);
    let key = '';
    const observer = new ResizeObserver(() => {
      const { clientWidth, clientHeight } = this.container;
      commands.resizeView(clientWidth, clientHeight);
      this.requestRender();
    });
    observer.observe(this.container);
    this.disposers.push(
      () => commands.maskListeners.delete(onMasks),
      () => observer.disconnect(),
      effect(() => {
        const session = store.session.value;
        const next = session ? `${session.id} ${session.key}` : '';
        if (next === key) return;
        key = next;
        untracked(() => {
          this.frames?.close();
          this.frames = session
            ? new FrameCache(
                (frame) => frameUrl(session.id, session.key, frame),
                this.renderer.maxSide,
                this.onArrival,
                commands.addWantedMask,
              )
            : null;
          this.masks.edit = null;
          this.targets = [];
          if (session) this.goTo(store.currentFrame.value);
          commands.fitView();
          this.requestRender();
        });
      }),
      effect(() => {
        const frame = store.currentFrame.value;
        untracked(() => {
          if (store.session.value) this.goTo(frame);
        });
      }),
      effect(() => {
        if (store.playing.value) return play(this);
        return undefined;
      }),
      // Whatever is drawn is read here, so that its change draws again.
      effect(() => {
        void [
          store.objects.value, store.selection.value, store.activeObject.value,
          store.visibleObjects.value, store.effect.value, store.brightness.value,
          store.contrast.value, store.flicker.value, store.showMasks.value,
          store.showPrompts.value, store.view.value, store.hoveredObject.value,
          store.hoveredPoint.value, store.proposals.value, store.selectedProposals.value,
          store.hoveredProposal.value, store.pendingPrompts.value, store.pointerPosition.value,
          store.brushRadius.value, store.tool.value, store.crosshair.value,
          store.frameError.value,
        ];
        this.requestRender();
      }),
    );
  }

  private createRenderer(): Renderer {
    const forced = new URLSearchParams(location.search).get('renderer');
    const anyway = forced === 'webgl';
    const renderer = forced === 'canvas' ? null : createWebglRenderer(this.canvas, anyway);
    if (!renderer) return new CanvasRenderer(this.freshCanvas());
    this.canvas.addEventListener('webglcontextlost', (event) => event.preventDefault());
    this.canvas.addEventListener('webglcontextrestored', () => {
      this.renderer = createWebglRenderer(this.canvas, true) ?? new CanvasRenderer(this.freshCanvas());
      this.requestRender();
    });
    return renderer;
  }

  /** A canvas that had a WebGL context gives no 2D context. */
  private freshCanvas(): HTMLCanvasElement {
    const fresh = this.canvas.cloneNode() as HTMLCanvasElement;
    this.canvas.replaceWith(fresh);
    this.canvas = fresh;
    return fresh;
  }
}
