// The state of the page. What the server tells or is told changes in `commands/` only;
// settings of the display (brightness, the open dialog, …) are written where they are set.
import { computed, signal } from '@preact/signals';

import type {
  AnnotatedObject,
  Effect,
  FrameRange,
  JobState,
  NoticeLevel,
  PassState,
  Prompt,
  ProposalInfo,
  ServerInfo,
  SessionEntry,
  SessionInfo,
  TrainingRun,
} from './protocol';
import { SCORE_NONE } from './protocol';

// ------------------------------------------------------------------------- page

export type Route = { readonly page: 'start' } | { readonly page: 'session'; readonly id: string };
export type Theme = 'light' | 'dark' | 'system';
export type Dialog = 'export' | 'import' | 'train' | 'models' | 'help' | null;

export const route = signal<Route>({ page: 'start' });
export const theme = signal<Theme>('system');
export const dialog = signal<Dialog>(null);

export interface Notice {
  readonly id: number;
  readonly level: NoticeLevel;
  readonly message: string;
  /** Stays until it is closed (a full disk). */
  readonly permanent: boolean;
}
export const notices = signal<readonly Notice[]>([]);

export const info = signal<ServerInfo | null>(null);
/** The server wants a token: the page asks for it. */
export const needsToken = signal(false);
export const sessions = signal<readonly SessionEntry[] | null>(null);
/** A session is being created or opened. */
export const opening = signal(false);

export interface Upload {
  readonly id: number;
  readonly name: string;
  readonly loaded: number;
  readonly total: number;
  readonly state: 'running' | 'done' | 'failed' | 'cancelled';
  readonly error: string | null;
}
export const uploads = signal<readonly Upload[]>([]);

export interface Job extends JobState {
  readonly id: string;
  /** Address of the result once `state` is 'done'. */
  readonly file: string;
}
export const jobs = signal<readonly Job[]>([]);
export const training = signal<readonly TrainingRun[]>([]);
export const models = signal<readonly string[]>([]);

// ---------------------------------------------------------------------- session

export type ConnectionState = 'connecting' | 'connected' | 'reconnecting' | 'closed';
export const connectionState = signal<ConnectionState>('closed');
export const session = signal<SessionInfo | null>(null);
/** The session was interrupted and has been recovered (the page says so once). */
export const recovered = signal(false);
/** In order of creation. */
export const objects = signal<ReadonlyMap<number, AnnotatedObject>>(new Map());
export const categories = signal<readonly string[]>([]);
export const brokenFrames = signal<readonly number[]>([]);
export const undoLabel = signal<string | null>(null);
export const redoLabel = signal<string | null>(null);
/** The running pass, or the last one until the next begins. */
export const pass = signal<PassState | null>(null);
/** Commands without an answer: the page shows that it waits. */
export const pendingCommands = signal(0);

/** Rows of scores by object: (T,), see `SCORE_DRAWN` and `SCORE_NONE`. Arrays change in
 * place; `scoresRevision` counts up with each change. */
export const scores = new Map<number, Uint8Array>();
export const scoresRevision = signal(0);

export interface Proposal extends ProposalInfo {
  readonly counts: Uint8Array;
}
export interface Proposals {
  readonly frame: number;
  readonly height: number;
  readonly width: number;
  readonly items: readonly Proposal[];
}
export const proposals = signal<Proposals | null>(null);
export const selectedProposals = signal<ReadonlySet<number>>(new Set());
export const hoveredProposal = signal<number | null>(null);

// ------------------------------------------------------------------------ frames

/** The frame that the user asked for (the play head). */
export const currentFrame = signal(0);
/** The frame whose picture is on the canvas; tools act on it. */
export const shownFrame = signal<number | null>(null);
/** Why the current frame cannot be shown (a broken frame), or null. */
export const frameError = signal<string | null>(null);
export const playing = signal(false);
export const playbackSpeed = signal(1);
export const PLAYBACK_SPEEDS = [0.25, 0.5, 1, 2, 4] as const;
/** The range chosen on the time line. */
export const rangeSelection = signal<FrameRange | null>(null);
/** Presence scores (percent) below this are low; 0 to 100. */
export const lowScore = signal(50);

// ------------------------------------------------------------------------- tools

export type ToolName = 'select' | 'point' | 'box' | 'brush' | 'eraser' | 'lasso' | 'hand';
export const TOOLS: readonly ToolName[] = [
  'select',
  'point',
  'box',
  'brush',
  'eraser',
  'lasso',
  'hand',
];
export const tool = signal<ToolName>('point');
/** What a plain click of the point tool means; Alt and the right button turn it round. */
export const pointLabel = signal<0 | 1>(1);
/** Radius in pixels of the frame. */
export const brushRadius = signal(12);
/** The object that tools edit; null: the next prompt makes a new one. */
export const activeObject = signal<number | null>(null);
/** Selected objects; contains the active one. */
export const selection = signal<ReadonlySet<number>>(new Set());
/** If not empty, only these objects are shown. Local to this page. */
export const soloObjects = signal<ReadonlySet<number>>(new Set());
export const hoveredObject = signal<number | null>(null);
/** Prompts that are sent but not answered, by `promptKey`. */
export const pendingPrompts = signal<ReadonlyMap<string, Prompt>>(new Map());

/** A point of a prompt. */
export interface PointIndex {
  readonly frame: number;
  readonly object: number;
  readonly index: number;
}
/** The point under the pointer. */
export const hoveredPoint = signal<PointIndex | null>(null);

// -------------------------------------------------------------------------- view

export const DEFAULT_EFFECT: Effect = {
  name: 'overlay',
  strength: 0.5,
  target: 'background',
  color: '#00b140',
  outline: true,
  objects: null,
};
export const effect = signal<Effect>(DEFAULT_EFFECT);
/** Brightness is added (-1 to 1), contrast multiplies (0 to 4). Only for the display. */
export const brightness = signal(0);
export const contrast = signal(1);
/** Shows the masks as they were before the last change (while the key is held). */
export const flicker = signal(false);
export const showMasks = signal(true);
export const showPrompts = signal(true);

/** Screen (CSS) pixels per frame pixel, and where the frame's corner is on the canvas. */
export interface View {
  readonly scale: number;
  readonly x: number;
  readonly y: number;
}
export const view = signal<View>({ scale: 1, x: 0, y: 0 });
/** The space bar is held, and whether it has panned (then it does not play). */
export const panKey = signal<'held' | 'used' | null>(null);
/** Where the pointer is, in pixels of the frame; null outside of it. */
export const pointerPosition = signal<readonly [x: number, y: number] | null>(null);
/** The cross hair that the arrow keys move, in pixels of the frame; null: off. */
export const crosshair = signal<readonly [x: number, y: number] | null>(null);

// ----------------------------------------------------------------------- derived

export const numFrames = computed(() => session.value?.num_frames ?? 0);
export const isVideo = computed(() => session.value?.kind === 'video');
export const passRunning = computed(() => pass.value?.state === 'running');
export const broken = computed(() => new Set(brokenFrames.value));
export const objectList = computed(() => [...objects.value.values()]);
/** Objects that are on screen, in order of creation. */
export const visibleObjects = computed(() => {
  const solo = soloObjects.value;
  return objectList.value.filter((object) => (solo.size ? solo.has(object.id) : !object.hidden));
});

/** Height and width of a frame. */
export function sizeOf(frame: number): readonly [height: number, width: number] {
  const sizes = session.value?.sizes ?? [];
  return (sizes.length === 1 ? sizes[0] : sizes[frame]) ?? [0, 0];
}

/** The name of the frame's file, for folders of images. */
export function frameName(frame: number): string | null {
  return session.value?.frame_names?.[frame] ?? null;
}

export function promptKey(frame: number, object: number | null): string {
  return `${frame}/${object ?? 'new'}`;
}

/** Prompts of an object on a frame, with what was sent but not answered. */
export function promptOf(frame: number, object: number | null): Prompt | null {
  const pending = pendingPrompts.value.get(promptKey(frame, object));
  if (pending) return pending;
  return object === null ? null : (objects.value.get(object)?.prompts[frame] ?? null);
}

export function isFrameLocked(object: AnnotatedObject, frame: number): boolean {
  return object.locked_frames.some(([start, stop]) => start <= frame && frame < stop);
}

/** Why an object cannot be edited on a frame, or null. */
export function lockReason(objectId: number | null, frame: number): string | null {
  const object = objectId === null ? undefined : objects.value.get(objectId);
  if (!object) return null;
  if (object.locked) return `${object.name} is locked: unlock it in the list of objects first.`;
  if (isFrameLocked(object, frame)) {
    return `Frame ${frame} of ${object.name} is locked: unlock it first (X).`;
  }
  return null;
}

/** Whether a score is a presence probability below `lowScore`. */
export function isLowScore(score: number): boolean {
  return score <= 100 && score < lowScore.value;
}

/** The row of scores of an object; empty rows are filled with `SCORE_NONE`. */
export function scoresOf(objectId: number): Uint8Array {
  scoresRevision.value; // subscribes the reader
  let row = scores.get(objectId);
  if (!row || row.length !== numFrames.value) {
    row = new Uint8Array(numFrames.value).fill(SCORE_NONE);
    scores.set(objectId, row);
  }
  return row;
}
