// Moving in time: frames, playback, and jumps to prompts and low scores.
import { batch } from '@preact/signals';

import * as store from '../store';
import { notify } from './notices';
import { selectObject } from './selection';

/** Each still has its own objects: those of another one are not prompted on it. */
function selectOnStill(frame: number): void {
  const isElsewhere = (id: number) => {
    const frames = Object.keys(store.objects.value.get(id)?.prompts ?? {});
    return frames.length > 0 && !frames.includes(String(frame));
  };
  if (![...store.selection.value].some(isElsewhere)) return;
  const here = store.objectList.value.findLast((object) => frame in object.prompts);
  selectObject(here?.id ?? null);
}

/** Goes to a frame; outside of the video to its first or last one. */
export function seek(frame: number): void {
  const last = Math.max(0, store.numFrames.value - 1);
  const target = Math.max(0, Math.min(last, Math.round(frame)));
  batch(() => {
    store.currentFrame.value = target;
    if (store.session.value?.kind === 'images') selectOnStill(target);
  });
}

export function step(frames: number): void {
  store.playing.value = false;
  seek(store.currentFrame.value + frames);
}

export function togglePlay(): void {
  if (!store.playing.value && store.currentFrame.value >= store.numFrames.value - 1) seek(0);
  store.playing.value = !store.playing.value && store.numFrames.value > 1;
}

export function setSpeed(speed: number): void {
  store.playbackSpeed.value = speed;
}

/** The objects that jumps look at: the selected ones, or all. */
function jumpObjects(): readonly number[] {
  const selected = store.selection.value;
  return selected.size ? [...selected] : [...store.objects.value.keys()];
}

function jump(frames: Iterable<number>, direction: 1 | -1, what: string): void {
  const now = store.currentFrame.value;
  const ahead = [...frames].filter((frame) => (frame - now) * direction > 0);
  if (!ahead.length) {
    notify('info', `There is no ${what} ${direction > 0 ? 'after' : 'before'} this frame.`);
    return;
  }
  store.playing.value = false;
  seek(direction > 0 ? Math.min(...ahead) : Math.max(...ahead));
}

export function jumpToPrompt(direction: 1 | -1): void {
  const frames = new Set<number>();
  for (const id of jumpObjects()) {
    for (const frame of Object.keys(store.objects.value.get(id)?.prompts ?? {})) {
      frames.add(Number(frame));
    }
  }
  jump(frames, direction, 'prompted frame');
}

/** First frames of the runs of low scores of an object. */
export function lowScoreRuns(objectId: number): number[] {
  const row = store.scoresOf(objectId);
  const starts: number[] = [];
  for (let frame = 0; frame < row.length; frame += 1) {
    const low = store.isLowScore(row[frame]!);
    if (low && (frame === 0 || !store.isLowScore(row[frame - 1]!))) starts.push(frame);
  }
  return starts;
}

/** Jumps to the next run of frames with a low score. */
export function jumpToLowScore(direction: 1 | -1): void {
  jump(new Set(jumpObjects().flatMap(lowScoreRuns)), direction, 'frame with a low score');
}
