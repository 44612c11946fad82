// The list of sessions, and what the start page needs to open one.
import * as api from '../api';
import type { FolderListing, SessionKind } from '../protocol';
import * as store from '../store';
import { attempt } from './notices';

export async function loadInfo(): Promise<void> {
  const info = await attempt(api.getInfo);
  if (info) {
    store.info.value = info;
    store.models.value = info.models;
  }
}

export async function refreshSessions(): Promise<void> {
  const sessions = await attempt(api.getSessions);
  if (sessions) store.sessions.value = sessions;
}

/** The entries of a folder below the server's roots; an empty path lists the roots. */
export function browse(path: string): Promise<FolderListing | null> {
  return attempt(() => api.browse(path));
}

/** Makes a session of a path, `example:NAME` or `upload:ID`, and opens it. */
export async function createSession(
  source: string,
  kind?: SessionKind,
  name?: string,
): Promise<string | null> {
  store.opening.value = true;
  const created = await attempt(() => api.createSession(source, kind, name));
  store.opening.value = false;
  if (!created) return null;
  openSession(created.id);
  return created.id;
}

export function openSession(id: string): void {
  location.hash = `#/sessions/${encodeURIComponent(id)}`;
}

export function closeSession(): void {
  location.hash = '#/';
}

export async function renameSession(id: string, name: string): Promise<boolean> {
  const renamed = await attempt(() => api.renameSession(id, name).then(() => true));
  if (!renamed) return false;
  const session = store.session.value;
  if (session?.id === id) store.session.value = { ...session, name };
  await refreshSessions();
  return true;
}

/** Finds the video of a session again; false if it is another one. */
export async function moveSession(id: string, source: string): Promise<boolean> {
  const moved = await attempt(() => api.moveSession(id, source).then(() => true));
  await refreshSessions();
  return moved === true;
}

export async function deleteSession(id: string): Promise<void> {
  await attempt(() => api.deleteSession(id));
  await refreshSessions();
}

/** Opens the page again with the token, which the server keeps as a cookie. */
export function enterToken(token: string): void {
  const address = new URL(document.baseURI);
  address.searchParams.set('token', token);
  address.hash = location.hash;
  location.assign(address.href);
}
