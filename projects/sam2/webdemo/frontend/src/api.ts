// The HTTP interface of the server. Addresses are relative to the page, so that it also
// works below the root path of a proxy.
import type {
  Effect,
  FolderListing,
  JobState,
  ModelInfo,
  ServerInfo,
  SessionEntry,
  SessionKind,
  TrainingRun,
} from './protocol';

/** An answer with an error; `message` is the server's sentence for the user. */
export class ApiError extends Error {
  constructor(
    message: string,
    readonly status: number,
  ) {
    super(message);
  }
}

export function url(path: string): string {
  return new URL(`api/${path}`, document.baseURI).href;
}

function sessionPath(id: string, rest = ''): string {
  return `sessions/${encodeURIComponent(id)}${rest && `/${rest}`}`;
}

export function socketUrl(sessionId: string): string {
  return url(sessionPath(sessionId, 'socket')).replace(/^http/, 'ws');
}

export function frameUrl(sessionId: string, key: string, frame: number): string {
  return url(sessionPath(sessionId, `frames/${frame}.jpg?key=${key}`));
}

/** A picture of 72 pixels height. */
export function thumbUrl(sessionId: string, key: string, frame: number): string {
  return url(sessionPath(sessionId, `thumbs/${frame}.jpg?key=${key}`));
}

export function jobFileUrl(job: string): string {
  return url(`jobs/${encodeURIComponent(job)}/file`);
}

/** The error of an answer that is not OK. */
export async function errorOf(response: Response): Promise<ApiError> {
  let message = `The server answered ${response.status} ${response.statusText}.`;
  try {
    const body = (await response.json()) as { error?: string };
    if (body.error) message = body.error;
  } catch {
    // Not JSON: a proxy in between answered.
  }
  return new ApiError(message, response.status);
}

async function call(method: string, path: string, body?: unknown): Promise<Response> {
  let response: Response;
  try {
    const init: RequestInit = { method };
    if (body !== undefined) {
      init.headers = { 'content-type': 'application/json' };
      init.body = JSON.stringify(body);
    }
    response = await fetch(url(path), init);
  } catch {
    throw new ApiError('The server does not answer: check that mmsam2 demo is running.', 0);
  }
  if (!response.ok) throw await errorOf(response);
  return response;
}

async function json<T>(method: string, path: string, body?: unknown): Promise<T> {
  const response = await call(method, path, body);
  return (response.status === 204 ? undefined : await response.json()) as T;
}

export const getInfo = () => json<ServerInfo>('GET', 'info');
export const browse = (path: string) =>
  json<FolderListing>('GET', `browse?path=${encodeURIComponent(path)}`);
export const getSessions = () => json<readonly SessionEntry[]>('GET', 'sessions');
export const createSession = (source: string, kind?: SessionKind, name?: string) =>
  json<{ id: string }>('POST', 'sessions', {
    source,
    ...(kind && { kind }),
    ...(name && { name }),
  });
export const renameSession = (session: string, name: string) =>
  json<unknown>('PATCH', sessionPath(session), { name });
export const deleteSession = (session: string) =>
  json<unknown>('DELETE', sessionPath(session));
/** Says where the video of a session is now; another video is refused. */
export const moveSession = (session: string, source: string) =>
  json<unknown>('PATCH', sessionPath(session), { source });
export const startExport = (session: string, format: string, withFrames: boolean) =>
  json<{ job: string }>('POST', sessionPath(session, 'exports'), {
    format,
    with_frames: withFrames,
  });
export const startRender = (
  session: string,
  kind: 'mp4' | 'gif',
  effect: Effect,
  start: number,
  stop: number,
) => json<{ job: string }>('POST', sessionPath(session, 'renders'), { kind, effect, start, stop });
export const renderStill = async (session: string, frame: number, effect: Effect) =>
  (await call('POST', sessionPath(session, 'stills'), { frame, effect })).blob();
export const getJob = (job: string) => json<JobState>('GET', `jobs/${encodeURIComponent(job)}`);
export const cancelJob = (job: string) => json<unknown>('DELETE', `jobs/${encodeURIComponent(job)}`);
export const importAnnotations = (session: string, source: string, format?: string) =>
  json<{ num_objects: number }>('POST', sessionPath(session, 'imports'), {
    source,
    ...(format && { format }),
  });
export const getTraining = () => json<readonly TrainingRun[]>('GET', 'training');
export const startTraining = (settings: TrainingSettings) =>
  json<{ run: string }>('POST', 'training', settings);
export const stopTraining = (run: string) => json<unknown>('DELETE', `training/${encodeURIComponent(run)}`);
export const getModels = () => json<{ current: ModelInfo; models: readonly string[] }>('GET', 'models');
export const useModel = (name: string) => json<unknown>('POST', 'models/use', { name });

export interface TrainingSettings {
  sessions: readonly string[];
  name: string;
  epochs?: number;
  size?: string;
}

/**
 * Uploads one file; a fetch cannot report progress, hence XMLHttpRequest.
 *
 * @param folder upload id of a folder of images that this file joins, if any.
 * @returns The upload id (`upload:…`), and a function that cancels.
 */
export function uploadFile(
  file: File,
  onProgress: (loaded: number) => void,
  folder?: string,
): { done: Promise<string>; cancel: () => void } {
  const request = new XMLHttpRequest();
  const query = `name=${encodeURIComponent(file.name)}${
    folder ? `&upload=${encodeURIComponent(folder)}` : ''
  }`;
  const done = new Promise<string>((resolve, reject) => {
    request.open('POST', url(`uploads?${query}`));
    request.upload.onprogress = (event) => onProgress(event.loaded);
    request.onload = () => {
      let body: { upload?: string; error?: string } = {};
      try {
        body = JSON.parse(request.responseText) as typeof body;
      } catch {
        // Not JSON: a proxy in between answered.
      }
      if (request.status < 300 && body.upload) resolve(body.upload);
      else {
        const message = body.error ?? `The server refused ${file.name} (${request.status}).`;
        reject(new ApiError(message, request.status));
      }
    };
    request.onerror = () => reject(new ApiError(`The upload of ${file.name} broke off.`, 0));
    request.onabort = () => reject(new ApiError(`The upload of ${file.name} was cancelled.`, 0));
    request.send(file);
  });
  return { done, cancel: () => request.abort() };
}
