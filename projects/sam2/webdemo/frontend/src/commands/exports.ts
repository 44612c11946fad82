// Exports, films, stills and imports.
import * as api from '../api';
import type { Effect } from '../protocol';
import * as store from '../store';
import { formatCount } from '../ui/format';
import { attempt, messageOf, notify, notifyError } from './notices';

const POLL_MS = 400;

/** Starts an export, with the frames beside the annotations or without. */
export async function startExport(format: string, withFrames: boolean): Promise<string | null> {
  const session = store.session.value;
  if (!session) return null;
  return followJob(await attempt(() => api.startExport(session.id, format, withFrames)), format);
}

/** Renders a film with the current effect; stop excluded. */
export async function startRender(
  kind: 'mp4' | 'gif',
  effect: Effect,
  start: number,
  stop: number,
): Promise<string | null> {
  const session = store.session.value;
  if (!session) return null;
  return followJob(
    await attempt(() => api.startRender(session.id, kind, effect, start, stop)),
    kind,
  );
}

function followJob(started: { job: string } | null, name: string): string | null {
  if (!started) return null;
  const id = started.job;
  const job: store.Job = {
    id,
    name,
    state: 'running',
    progress: 0,
    error: null,
    file: api.jobFileUrl(id),
  };
  store.jobs.value = [...store.jobs.value, job];
  void pollJob(id);
  return id;
}

async function pollJob(id: string): Promise<void> {
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    let state;
    try {
      state = await api.getJob(id);
    } catch (error) {
      // While the server is away its jobs go on.
      if (error instanceof api.ApiError && error.status === 0) continue;
      state = { state: 'failed' as const, error: messageOf(error) };
    }
    store.jobs.value = store.jobs.value.map((job) => (job.id === id ? { ...job, ...state } : job));
    if (state.state === 'failed') {
      notifyError(state.error ?? 'The export failed.');
    }
    if (state.state !== 'running') return;
  }
}

export async function cancelJob(id: string): Promise<void> {
  await attempt(() => api.cancelJob(id));
}

export function dismissJob(id: string): void {
  store.jobs.value = store.jobs.value.filter((job) => job.id !== id);
}

/** Downloads the shown frame as a PNG. */
export async function downloadStill(effect: Effect): Promise<void> {
  const session = store.session.value;
  const frame = store.shownFrame.value;
  if (!session || frame === null) return;
  const blob = await attempt(() => api.renderStill(session.id, frame, effect));
  if (!blob) return;
  const link = document.createElement('a');
  link.href = URL.createObjectURL(blob);
  link.download = `${session.name}_${store.frameName(frame) ?? String(frame).padStart(5, '0')}.png`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

/** Adds the objects of a file or folder (path or `upload:ID`); null format: recognised. */
export async function importAnnotations(source: string, format?: string): Promise<number | null> {
  const session = store.session.value;
  if (!session) return null;
  const reply = await attempt(() => api.importAnnotations(session.id, source, format));
  if (!reply) return null;
  notify('info', `Imported ${formatCount(reply.num_objects, 'object')}.`);
  return reply.num_objects;
}
