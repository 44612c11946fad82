// `?debug=1`: `window.mmsam2`, by which the browser tests read what is on screen.
import * as commands from '../commands';
import { toText } from '../rle';
import * as store from '../store';
import type { Stage } from './stage';

export function exposeDebug(stage: Stage): void {
  if (!new URLSearchParams(location.search).has('debug')) return;
  Object.assign(window, {
    mmsam2: {
      /** The frame that is drawn. */
      frame: () => store.shownFrame.value,
      seek: commands.seek,
      /** The masks of a frame as COCO codes, or null if they are not loaded. */
      masks: (frame = store.shownFrame.value ?? 0) => {
        const message = commands.maskCache.get(frame);
        if (!message || !commands.maskCache.isFresh(frame)) return null;
        const size = [message.height, message.width];
        // Those of deleted objects are kept until they are asked for again (undo).
        const entries = message.entries.filter((entry) => store.objects.value.has(entry.object));
        return entries.map((entry) => ({
          object: entry.object,
          score: entry.score,
          size,
          counts: toText(entry.counts),
        }));
      },
      objects: () => store.objectList.value,
      pass: () => store.pass.value,
      toPage: (x: number, y: number) => {
        const rectangle = stage.container.getBoundingClientRect();
        const [left, top] = stage.toCanvas(x, y);
        return [rectangle.left + left, rectangle.top + top];
      },
      zoom: () => store.view.value.scale,
      /** Screen pixels per frame pixel, and where the corner of the frame is. */
      setView: (scale: number, x: number, y: number) => {
        store.view.value = { scale, x, y };
      },
      setEffect: commands.setEffect,
      renderer: stage.renderer.name,
      fps: () => stage.framesPerSecond(),
      connected: () => store.connectionState.value === 'connected',
      pending: () => store.pendingCommands.value,
      idle: () =>
        store.connectionState.value === 'connected' &&
        store.session.value !== null &&
        store.shownFrame.value === store.currentFrame.value &&
        (store.frameError.value !== null ||
          commands.maskCache.isFresh(store.currentFrame.value)) &&
        store.pendingCommands.value === 0 &&
        commands.isQuiet() &&
        stage.isDrawn,
      cut: commands.cutConnection,
      /** Of the decoded label map. */
      hash: () => stage.masks.labels.hash(),
      /** The topmost object that is drawn at a pixel, 0 for none. */
      labelAt: (x: number, y: number) => stage.masks.labels.objectAt(x, y) ?? 0,
      scores: (object: number) => [...store.scoresOf(object)],
      selection: () => [...store.selection.value],
      bytes: () => ({
        frames: stage.frames?.sizeInBytes ?? 0,
        masks: commands.maskCache.sizeInBytes,
      }),
    },
  });
}
