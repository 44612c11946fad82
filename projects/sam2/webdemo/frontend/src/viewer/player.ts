// Playback at the video's own rate times a speed. It steps over whole frames: where the
// machine is too slow frames are left out, and never shown under another number.
import * as commands from '../commands';
import * as store from '../store';
import type { Stage } from './stage';

/** Folders of frames have no rate; stills are shown as slides. */
const DEFAULT_RATE = 24;
const SLIDE_RATE = 2;
/** More pictures a second are not worth loading. */
const DISPLAY_RATE = 30;
const MAX_AHEAD = 24;
/** Waiting longer than this, playback goes on from where it is. */
const PATIENCE_MS = 400;

/** Plays from the current frame until it is stopped; returns the function that stops. */
export function play(stage: Stage): () => void {
  const session = store.session.peek();
  const rate =
    session?.frames_per_second ?? (session?.kind === 'images' ? SLIDE_RATE : DEFAULT_RATE);
  let start = store.currentFrame.peek();
  let begin = performance.now();
  let speed = store.playbackSpeed.peek();
  let request = 0;

  const restart = (now: number) => {
    start = store.currentFrame.peek();
    begin = now;
    speed = store.playbackSpeed.peek();
  };

  const tick = (now: number) => {
    request = requestAnimationFrame(tick);
    if (speed !== store.playbackSpeed.peek()) restart(now);
    const last = store.numFrames.peek() - 1;
    const current = store.currentFrame.peek();
    const stride = Math.max(1, Math.round((rate * speed) / DISPLAY_RATE));
    const elapsed = ((now - begin) / 1000) * rate * speed;
    const due = Math.min(last, start + stride * Math.floor(elapsed / stride));
    let next = due;
    while (next > current && !stage.isReady(next)) next -= stride;
    if (next > current) commands.seek(next);
    else if (due > current && (due - current) / (rate * speed) > PATIENCE_MS / 1000) restart(now);
    if (current >= last) {
      store.playing.value = false;
      return;
    }
    const [height, width] = store.sizeOf(current);
    const ahead = Math.min(MAX_AHEAD, (stage.frames?.capacity(height, width) ?? 4) / 2);
    const from = Math.max(next, current);
    const frames: number[] = [];
    for (let i = 1; i <= ahead && from + i * stride <= last; i += 1) frames.push(from + i * stride);
    // The last frame may lie between two strides.
    if (frames.length < ahead && from < last) frames.push(last);
    stage.want(frames);
  };
  request = requestAnimationFrame(tick);
  return () => cancelAnimationFrame(request);
}
