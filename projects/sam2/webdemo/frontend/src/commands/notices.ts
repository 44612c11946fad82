// Messages for the user. Failures become notices, so callers need no error handling.
import { ApiError } from '../api';
import type { NoticeLevel } from '../protocol';
import * as store from '../store';

let nextNotice = 1;
const NOTICE_MS = { info: 4_000, warning: 8_000, error: 12_000 };

/** Shows a message; it goes after a while unless it is permanent. */
export function notify(level: NoticeLevel, message: string, permanent = false): void {
  const same = store.notices.value.find((notice) => notice.message === message);
  if (same) return;
  const notice = { id: nextNotice++, level, message, permanent };
  store.notices.value = [...store.notices.value, notice];
  if (!permanent) setTimeout(() => dismissNotice(notice.id), NOTICE_MS[level]);
}

/** Shows why something failed; a full disk stays until the notice is closed. */
export function notifyError(error: unknown): void {
  notify('error', messageOf(error), isDiskFull(error));
}

export function dismissNotice(id: number): void {
  store.notices.value = store.notices.value.filter((notice) => notice.id !== id);
}

/** Runs a call of the server; its error becomes a notice. */
export async function attempt<T>(call: () => Promise<T>): Promise<T | null> {
  try {
    return await call();
  } catch (error) {
    if (error instanceof ApiError && error.status === 401) store.needsToken.value = true;
    else notifyError(error);
    return null;
  }
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

export function isDiskFull(error: unknown): boolean {
  return (
    (error instanceof ApiError && error.status === 507) ||
    /no space|disk (is )?full|quota|file too large/i.test(messageOf(error))
  );
}
