// An open session whose server is the test: what one clicks shows up as commands.
import { vi } from 'vitest';

import * as commands from '../src/commands';
import type { AnnotatedObject } from '../src/protocol';
import { FakeSocket, hello } from './messages';

/** Asked for by the page itself, not by its user. */
const BACKGROUND = ['hello', 'masks', 'scores', 'ping'];

/** Waits until the page has been drawn again. */
export async function settle(): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, 25));
}

/** Opens a session of 200 frames with these objects, and selects the first one. */
export async function openSession(objects: readonly AnnotatedObject[]): Promise<FakeSocket> {
  vi.stubGlobal('WebSocket', FakeSocket);
  commands.connect('s');
  FakeSocket.last.open();
  FakeSocket.last.say(hello(objects, 200));
  if (objects[0]) commands.selectObject(objects[0].id);
  await settle();
  return FakeSocket.last;
}

/** The latest command of the user, without its request number. */
export function commandOf(socket: FakeSocket): Record<string, unknown> | undefined {
  const latest = socket.sent.filter(({ type }) => !BACKGROUND.includes(type as string)).at(-1);
  if (!latest) return undefined;
  const { request: _, ...fields } = latest;
  return fields;
}

/** Answers all commands. */
export async function answer(socket: FakeSocket): Promise<void> {
  for (const { request, type } of socket.sent) {
    if (type !== 'hello') socket.say({ type: 'done', request });
  }
  await settle();
}
