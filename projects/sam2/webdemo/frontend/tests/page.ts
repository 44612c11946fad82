// A page with a server that the test plays: what is clicked shows up as messages.
import { vi } from 'vitest';

import * as commands from '../src/commands';
import type { AnnotatedObject, ServerMessage } from '../src/protocol';

type Sent = { request: number; type: string } & Record<string, unknown>;

/** The other end of the page's socket. */
export class FakeSocket {
  static readonly OPEN = 1;
  static last: FakeSocket;
  readyState = 1;
  binaryType = '';
  onopen: (() => void) | null = null;
  onmessage: ((event: { data: unknown }) => void) | null = null;
  onclose: ((event: { code: number; reason: string }) => void) | null = null;
  readonly sent: Sent[] = [];

  constructor(readonly address: string) {
    FakeSocket.last = this;
    queueMicrotask(() => this.onopen?.());
  }

  send(text: string): void {
    this.sent.push(JSON.parse(text) as Sent);
  }

  close(): void {}

  push(message: ServerMessage): void {
    this.onmessage?.({ data: JSON.stringify(message) });
  }

  pushBytes(bytes: ArrayBuffer): void {
    this.onmessage?.({ data: bytes });
  }

  /** The latest command, without its request number. */
  get command(): Record<string, unknown> | undefined {
    const last = this.sent.filter((message) => !['scores', 'masks', 'hello', 'ping'].includes(message.type)).at(-1);
    if (!last) return undefined;
    const { request: _, ...fields } = last;
    return fields;
  }

  /** Answers all commands. */
  async answer(fields: Record<string, unknown> = {}): Promise<void> {
    for (const { request, type } of this.sent) {
      if (type !== 'hello') this.push({ type: 'done', request, ...fields });
    }
    await settle();
  }
}

export function makeObject(id: number, fields: Partial<AnnotatedObject> = {}): AnnotatedObject {
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

/** Waits until the page has been drawn again. */
export async function settle(): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, 20));
}

/** Opens a session of 200 frames with these objects. */
export async function openSession(objects: readonly AnnotatedObject[]): Promise<FakeSocket> {
  vi.stubGlobal('WebSocket', FakeSocket);
  commands.connect('a');
  await settle();
  FakeSocket.last.push({
    type: 'hello',
    session: {
      id: 'a',
      name: 'Street',
      kind: 'video',
      key: 'k',
      num_frames: 200,
      frames_per_second: 25,
      sizes: [[360, 640]],
      model: 'mini',
    },
    document: {
      objects: Object.fromEntries(objects.map((object) => [object.id, object])),
      order: objects.map((object) => object.id),
      categories: ['animal'],
      broken_frames: [],
      revision: 1,
    },
    undo: null,
    redo: null,
    pass: null,
    recovered: false,
  });
  await settle();
  return FakeSocket.last;
}
