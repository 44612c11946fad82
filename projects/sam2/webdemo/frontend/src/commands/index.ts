// What a user can do: every button and key of the page calls a function of this folder.
// Failures become notices, so callers need no error handling; a command that was refused
// returns null (or false).
export * from './exports';
export * from './navigation';
export { dismissNotice, notify } from './notices';
export * from './objects';
export * from './prompts';
export * from './proposals';
export * from './selection';
export {
  addWantedMask,
  connect,
  cutConnection,
  disconnect,
  isQuiet,
  maskCache,
  maskListeners,
  wantMasks,
} from './session';
export * from './sessions';
export * from './training';
export * from './uploads';
export * from './view';
