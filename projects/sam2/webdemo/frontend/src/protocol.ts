// What the page and the server say to each other: the JSON records of the HTTP
// interface and of the socket, and the binary messages that carry masks and scores.
// Coordinates are pixels of the original frame, positions in time are frame indices.

/** A click: x, y, and 1 (on the object) or 0 (outside of it). */
export type Point = readonly [x: number, y: number, label: 0 | 1];
/** Corners of a box: left, top, right, bottom. */
export type Box = readonly [x0: number, y0: number, x1: number, y1: number];
/** A range of frames, the last one excluded. */
export type FrameRange = readonly [start: number, stop: number];

/** What an object has on one frame. */
export interface Prompt {
  readonly points: readonly Point[];
  readonly box: Box | null;
  /** The mask of this frame was drawn, imported, merged or accepted. */
  readonly mask: boolean;
}

export interface AnnotatedObject {
  readonly id: number;
  readonly name: string;
  readonly category: string;
  readonly color: string;
  readonly hidden: boolean;
  readonly locked: boolean;
  readonly prompts: Readonly<Record<number, Prompt>>;
  readonly locked_frames: readonly FrameRange[];
}

export type SessionKind = 'video' | 'images';
export type Direction = 'forward' | 'backward' | 'both';

export interface ModelInfo {
  readonly name: string;
  readonly config: string;
  readonly checkpoint: string | null;
  readonly device: string;
  readonly image_size: number | readonly number[];
}

export interface SessionInfo {
  readonly id: string;
  readonly name: string;
  readonly kind: SessionKind;
  /** Part of the addresses of frames: it changes with the content of the file. */
  readonly key: string;
  readonly num_frames: number;
  readonly frames_per_second: number | null;
  /** Height and width of each frame, or one pair if all are equal. */
  readonly sizes: readonly (readonly [height: number, width: number])[];
  readonly frame_names?: readonly string[];
  readonly model: string;
}

export interface DocumentState {
  readonly objects: Readonly<Record<string, AnnotatedObject>>;
  readonly order: readonly number[];
  readonly categories: readonly string[];
  readonly broken_frames: readonly number[];
  readonly revision: number;
}

export interface PassState {
  readonly state: 'running' | 'done' | 'cancelled' | 'failed';
  readonly label: string;
  /** The objects that are tracked. */
  readonly objects: readonly number[];
  /** Null before the first frame. */
  readonly frame: number | null;
  readonly done: number;
  readonly total: number;
  readonly message?: string;
}

export interface ProposalInfo {
  readonly index: number;
  readonly score: number;
  readonly label: string;
}

export interface TrainingRun {
  readonly run: string;
  readonly name: string;
  readonly state: 'preparing' | 'running' | 'done' | 'failed' | 'stopped';
  readonly message: string;
  readonly progress: number;
  readonly curves: Readonly<Record<string, readonly (readonly [number, number])[]>>;
  readonly checkpoints: readonly string[];
  readonly best: string | null;
}

/** Text messages of the server. */
export type ServerMessage =
  | {
      readonly type: 'hello';
      readonly session: SessionInfo;
      readonly document: DocumentState;
      readonly undo: string | null;
      readonly redo: string | null;
      readonly pass: PassState | null;
      readonly recovered: boolean;
      /** Of the server's process: another one does not know the requests of before. */
      readonly server: string;
    }
  | {
      readonly type: 'changed';
      readonly objects: Readonly<Record<string, AnnotatedObject | null>>;
      readonly order: readonly number[];
      readonly categories: readonly string[];
      readonly broken_frames: readonly number[];
      readonly undo: string | null;
      readonly redo: string | null;
      readonly masks: readonly (readonly [object: number, start: number, stop: number])[];
      readonly revision: number;
    }
  | ({ readonly type: 'pass' } & PassState)
  | {
      readonly type: 'proposals';
      readonly frame: number;
      readonly proposals: readonly ProposalInfo[];
    }
  | { readonly type: 'notice'; readonly level: NoticeLevel; readonly message: string }
  | { readonly type: 'model'; readonly name: string }
  | { readonly type: 'training'; readonly runs: readonly TrainingRun[] }
  | ({ readonly type: 'done'; readonly request: number } & Reply)
  | { readonly type: 'error'; readonly request: number; readonly message: string };

export type NoticeLevel = 'info' | 'warning' | 'error';

/** What the server adds to `done`. */
export interface Reply {
  readonly object?: number;
  readonly objects?: readonly number[];
}

/** Commands of the page, by type; `request` is added by the connection. */
export interface Commands {
  prompt: { frame: number; object: number | null; points: readonly Point[]; box: Box | null };
  draw: {
    frame: number;
    object: number | null;
    mask: { size: readonly [height: number, width: number]; counts: string };
  };
  clear_prompts: { frame: number; object: number };
  add_object: { name?: string; category?: string };
  update_object: { object: number } & ObjectProperties;
  delete_objects: { objects: readonly number[] };
  merge_objects: { objects: readonly number[]; into: number };
  split_object: { object: number; frame: number };
  delete_masks: { object: number; start: number; stop: number };
  lock_frames: { object: number; start: number; stop: number; locked: boolean };
  propagate: {
    objects: readonly number[] | null;
    start: number;
    stop: number | null;
    direction: Direction;
  };
  refine: { objects: readonly number[] | null; frame: number };
  cancel: Record<never, never>;
  propose: { frame: number; settings?: Readonly<Record<string, number>> };
  propose_text: { frame: number; text: string; threshold?: number };
  accept_proposals: {
    frame: number;
    indices: readonly number[];
    names?: readonly string[];
    category?: string;
  };
  undo: Record<never, never>;
  redo: Record<never, never>;
  masks: { frames: readonly number[] };
  scores: { objects: readonly number[] | null };
  ping: Record<never, never>;
}
export type CommandType = keyof Commands;

export interface ObjectProperties {
  name?: string;
  category?: string;
  color?: string;
  hidden?: boolean;
  locked?: boolean;
}

// ------------------------------------------------------------------ HTTP records

export interface ServerInfo {
  readonly version: string;
  readonly model: ModelInfo;
  readonly models: readonly string[];
  readonly examples: readonly {
    readonly name: string;
    readonly title: string;
    readonly num_frames: number;
  }[];
  readonly roots: readonly string[];
  readonly max_upload_bytes: number;
  readonly features: { readonly text: boolean; readonly training: boolean };
  readonly export_formats: readonly FormatInfo[];
  readonly import_formats: readonly FormatInfo[];
}

export interface FormatInfo {
  readonly name: string;
  readonly title: string;
}

export interface FolderEntry {
  readonly name: string;
  readonly path: string;
  readonly kind: 'folder' | 'video' | 'images' | 'frames' | 'annotations';
  readonly size: number | null;
}

export interface FolderListing {
  readonly path: string;
  readonly parent: string | null;
  readonly entries: readonly FolderEntry[];
}

export interface SessionEntry {
  readonly id: string;
  readonly name: string;
  readonly source: string;
  readonly kind: SessionKind;
  readonly num_frames: number;
  readonly num_objects: number;
  /** Seconds since 1970. */
  readonly modified: number;
  readonly state: 'open' | 'closed' | 'missing video' | 'damaged';
  readonly crashed: boolean;
  /** Part of the addresses of thumbnails, if the server knows it without opening. */
  readonly key?: string;
}

export interface JobState {
  readonly state: 'running' | 'done' | 'failed' | 'cancelled';
  readonly progress: number;
  readonly error: string | null;
  readonly name: string;
}

export const EFFECT_NAMES = [
  'overlay',
  'outline',
  'cutout',
  'blur',
  'pixelate',
  'spotlight',
  'desaturate',
  'replace',
] as const;
export type EffectName = (typeof EFFECT_NAMES)[number];

export interface Effect {
  readonly name: EffectName;
  /** 0 to 1. */
  readonly strength: number;
  readonly target: 'background' | 'objects';
  /** `#rrggbb`, of the replaced background. */
  readonly color: string;
  readonly outline: boolean;
  /** The objects that are shown; null for all. */
  readonly objects: readonly number[] | null;
}

// --------------------------------------------------------------- binary messages

const HEADER_BYTES = 24;
export const MASKS = 1;
export const PROPOSALS = 2;
export const SCORES = 3;

/** In a row of scores: the mask was drawn (no score), and there is no mask. */
export const SCORE_DRAWN = 253;
export const SCORE_NONE = 255;

/** One mask of a message; `counts` are COCO's compressed run lengths. */
export interface MaskEntry {
  /** Object id, or the index of a proposal. */
  readonly object: number;
  /** Presence probability; NaN if the mask was drawn. */
  readonly score: number;
  readonly prompted: boolean;
  readonly locked: boolean;
  readonly counts: Uint8Array;
}

export interface MaskMessage {
  readonly kind: typeof MASKS | typeof PROPOSALS;
  readonly frame: number;
  readonly height: number;
  readonly width: number;
  readonly revision: number;
  readonly entries: readonly MaskEntry[];
  readonly bytes: number;
}

export interface ScoreMessage {
  readonly kind: typeof SCORES;
  readonly object: number;
  readonly revision: number;
  /** (T,), 0 to 100 %, or SCORE_DRAWN or SCORE_NONE. */
  readonly scores: Uint8Array;
}

/**
 * Reads a binary message of the server.
 *
 * The masks are views of the message, so that nothing is copied.
 *
 * @throws Error if the message is torn or of another version.
 */
export function parseBinary(buffer: ArrayBuffer): MaskMessage | ScoreMessage {
  const view = new DataView(buffer);
  if (buffer.byteLength < HEADER_BYTES || view.getUint8(0) !== 1) {
    throw new Error('The server sent a binary message that this page cannot read: reload it.');
  }
  const kind = view.getUint8(1);
  const frame = view.getUint32(4, true);
  const height = view.getUint32(8, true);
  const width = view.getUint32(12, true);
  const count = view.getUint32(16, true);
  const revision = view.getUint32(20, true);
  if (kind === SCORES) {
    return { kind, object: frame, revision, scores: new Uint8Array(buffer, HEADER_BYTES, count) };
  }
  if (kind !== MASKS && kind !== PROPOSALS) {
    throw new Error(`The server sent a binary message of the unknown kind ${kind}: reload the page.`);
  }
  const entries: MaskEntry[] = [];
  let offset = HEADER_BYTES;
  for (let i = 0; i < count; i += 1) {
    const flags = view.getUint32(offset + 8, true);
    const length = view.getUint32(offset + 12, true);
    entries.push({
      object: view.getUint32(offset, true),
      score: view.getFloat32(offset + 4, true),
      prompted: (flags & 1) !== 0,
      locked: (flags & 2) !== 0,
      counts: new Uint8Array(buffer, offset + 16, length),
    });
    offset += 16 + ((length + 3) & ~3);
  }
  return { kind, frame, height, width, revision, entries, bytes: buffer.byteLength };
}
