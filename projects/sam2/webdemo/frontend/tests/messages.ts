// Messages of the server for tests, written from the description of the protocol.
import type { AnnotatedObject, MaskMessage } from '../src/protocol';
import { MASKS, parseBinary } from '../src/protocol';

export interface Entry {
  readonly object: number;
  readonly score: number;
  readonly flags: number;
  readonly counts: string;
}

interface Header {
  readonly frame: number;
  readonly height: number;
  readonly width: number;
  readonly revision: number;
}

/** A binary message: 24 bytes of header, then 16 bytes and a padded code for each mask. */
export function binary(kind: number, header: Header, entries: readonly Entry[]): ArrayBuffer {
  const padded = entries.map(({ counts }) => 4 * Math.ceil(counts.length / 4));
  const buffer = new ArrayBuffer(24 + padded.reduce((sum, bytes) => sum + 16 + bytes, 0));
  const view = new DataView(buffer);
  view.setUint8(0, 1);
  view.setUint8(1, kind);
  [header.frame, header.height, header.width, entries.length, header.revision].forEach(
    (value, i) => view.setUint32(4 + 4 * i, value, true),
  );
  let offset = 24;
  entries.forEach(({ object, score, flags, counts }, i) => {
    view.setUint32(offset, object, true);
    view.setFloat32(offset + 4, score, true);
    view.setUint32(offset + 8, flags, true);
    view.setUint32(offset + 12, counts.length, true);
    new Uint8Array(buffer).set(new TextEncoder().encode(counts), offset + 16);
    offset += 16 + padded[i]!;
  });
  return buffer;
}

export function masks(frame: number, revision: number, counts: string, height = 4, width = 4) {
  const entry = { object: 1, score: 1, flags: 0, counts };
  return parseBinary(binary(MASKS, { frame, height, width, revision }, [entry])) as MaskMessage;
}

export function object(id: number, fields: Partial<AnnotatedObject> = {}): AnnotatedObject {
  return {
    id,
    name: `Object ${id}`,
    category: '',
    color: '#1f77b4',
    hidden: false,
    locked: false,
    prompts: {},
    locked_frames: [],
    ...fields,
  };
}

/** The `hello` message of a session. */
export function hello(objects: readonly AnnotatedObject[], numFrames = 100, revision = 0, server = 'a') {
  return {
    type: 'hello' as const,
    session: {
      id: 's',
      name: 'clip',
      kind: 'video' as const,
      key: 'k',
      num_frames: numFrames,
      frames_per_second: 25,
      sizes: [[40, 60]] as [number, number][],
      model: 'mini',
    },
    document: {
      objects: Object.fromEntries(objects.map((record) => [record.id, record])),
      order: objects.map(({ id }) => id),
      categories: [],
      broken_frames: [],
      revision,
    },
    undo: null,
    redo: null,
    pass: null,
    recovered: false,
    server,
  };
}

/** A socket of a browser whose other side is the test. */
export class FakeSocket {
  static readonly OPEN = 1;
  static all: FakeSocket[] = [];
  static get last(): FakeSocket {
    return FakeSocket.all.at(-1)!;
  }

  readonly sent: Record<string, unknown>[] = [];
  readyState = 0;
  binaryType = '';
  onopen: (() => void) | null = null;
  onmessage: ((event: { data: unknown }) => void) | null = null;
  onclose: ((event: { code: number; reason: string }) => void) | null = null;

  constructor(readonly url: string) {
    FakeSocket.all.push(this);
  }

  send(text: string): void {
    this.sent.push(JSON.parse(text) as Record<string, unknown>);
  }

  close(): void {
    this.readyState = 3;
  }

  // The other side.
  open(): void {
    this.readyState = 1;
    this.onopen?.();
  }
  say(message: object): void {
    this.onmessage?.({ data: JSON.stringify(message) });
  }
  push(buffer: ArrayBuffer): void {
    this.onmessage?.({ data: buffer });
  }
  drop(code = 1006, reason = ''): void {
    this.readyState = 3;
    this.onclose?.({ code, reason });
  }
  /** Commands of a type that were sent. */
  of(type: string): Record<string, unknown>[] {
    return this.sent.filter((message) => message['type'] === type);
  }
}
