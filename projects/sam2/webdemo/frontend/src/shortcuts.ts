// The keys of the page: one table, from which the help sheet is made as well.
import * as commands from './commands';
import * as store from './store';

/** A line of the help sheet. */
export interface HelpEntry {
  readonly group: string;
  readonly title: string;
  /** As in `KeyboardEvent.key`, with `Mod+` (Ctrl, on a Mac Command), `Shift+`, `Alt+`. */
  readonly keys: readonly string[];
}

export interface Shortcut extends HelpEntry {
  /** Runs on key down. */
  run(event: KeyboardEvent): void;
  /** Runs on key up, for keys that are held. */
  release?(): void;
}

const LARGE_STEP = 10;

function selectedOrAll(): readonly number[] | null {
  return store.selection.value.size ? [...store.selection.value] : null;
}

function forSelected(act: (ids: readonly number[]) => unknown): void {
  const ids = [...store.selection.value];
  if (ids.length) act(ids);
  else commands.notify('info', 'Select an object first.');
}

function shownFrame(): number {
  return store.shownFrame.value ?? store.currentFrame.value;
}

/** Key and name of each tool. */
export const TOOL_KEYS: Readonly<
  Record<store.ToolName, readonly [key: string, title: string]>
> = {
  select: ['V', 'Select objects'],
  point: ['P', 'Points'],
  box: ['R', 'Box'],
  brush: ['D', 'Brush'],
  eraser: ['E', 'Eraser'],
  lasso: ['L', 'Lasso'],
  hand: ['H', 'Hand (pan)'],
};

export const SHORTCUTS: readonly Shortcut[] = [
  ...store.TOOLS.map((tool) => ({
    group: 'Tools',
    title: TOOL_KEYS[tool][1],
    keys: [TOOL_KEYS[tool][0]],
    run: () => commands.setTool(tool),
  })),
  {
    group: 'Tools',
    title: 'Smaller brush',
    keys: ['['],
    run: () => commands.setBrushRadius(Math.floor(store.brushRadius.value / 1.2)),
  },
  {
    group: 'Tools',
    title: 'Larger brush',
    keys: [']'],
    run: () => commands.setBrushRadius(Math.ceil(store.brushRadius.value * 1.2)),
  },
  {
    group: 'Tools',
    title: 'Cross hair for the keyboard: arrows move it, Enter places a point',
    keys: ['K'],
    run: () => {
      const [height, width] = store.sizeOf(shownFrame());
      store.crosshair.value = store.crosshair.value ? null : [width / 2, height / 2];
      document.querySelector<HTMLElement>('[data-testid="viewer-canvas"]')?.focus();
    },
  },
  {
    group: 'Time',
    title: 'Play or pause (held: drag to pan)',
    keys: [' '],
    run: () => {
      store.panKey.value = 'held';
    },
    release: () => {
      if (store.panKey.value === 'held') commands.togglePlay();
      store.panKey.value = null;
    },
  },
  { group: 'Time', title: 'Next frame', keys: ['ArrowRight'], run: () => commands.step(1) },
  { group: 'Time', title: 'Previous frame', keys: ['ArrowLeft'], run: () => commands.step(-1) },
  {
    group: 'Time',
    title: `${LARGE_STEP} frames on`,
    keys: ['Shift+ArrowRight'],
    run: () => commands.step(LARGE_STEP),
  },
  {
    group: 'Time',
    title: `${LARGE_STEP} frames back`,
    keys: ['Shift+ArrowLeft'],
    run: () => commands.step(-LARGE_STEP),
  },
  { group: 'Time', title: 'First frame', keys: ['Home'], run: () => commands.seek(0) },
  {
    group: 'Time',
    title: 'Last frame',
    keys: ['End'],
    run: () => commands.seek(store.numFrames.value - 1),
  },
  { group: 'Time', title: 'Next prompt', keys: ['.'], run: () => commands.jumpToPrompt(1) },
  { group: 'Time', title: 'Previous prompt', keys: [','], run: () => commands.jumpToPrompt(-1) },
  { group: 'Time', title: 'Next low score', keys: ['N'], run: () => commands.jumpToLowScore(1) },
  {
    group: 'Time',
    title: 'Previous low score',
    keys: ['B'],
    run: () => commands.jumpToLowScore(-1),
  },
  {
    group: 'Tracking',
    title: 'Track forwards (selected objects, or all)',
    keys: ['T'],
    run: () => void commands.propagate(selectedOrAll(), shownFrame(), null, 'forward'),
  },
  {
    group: 'Tracking',
    title: 'Track backwards',
    keys: ['Shift+T'],
    run: () => void commands.propagate(selectedOrAll(), shownFrame(), null, 'backward'),
  },
  {
    group: 'Tracking',
    title: 'Refine: track both ways up to locked frames',
    keys: ['G'],
    run: () => void commands.refine(selectedOrAll(), shownFrame()),
  },
  {
    group: 'Tracking',
    title: 'Lock or unlock this frame of the selected objects',
    keys: ['X'],
    run: () =>
      forSelected((ids) => {
        const frame = shownFrame();
        for (const id of ids) {
          const object = store.objects.value.get(id);
          if (object) {
            const locked = !store.isFrameLocked(object, frame);
            void commands.lockFrames(id, frame, frame + 1, locked);
          }
        }
      }),
  },
  {
    group: 'Objects',
    title: 'New object: the next prompt makes it',
    keys: ['Q'],
    run: commands.newObject,
  },
  {
    group: 'Objects',
    title: 'Next object',
    keys: ['ArrowDown'],
    run: () => commands.selectNeighbour(1),
  },
  {
    group: 'Objects',
    title: 'Previous object',
    keys: ['ArrowUp'],
    run: () => commands.selectNeighbour(-1),
  },
  { group: 'Objects', title: 'Select all', keys: ['Mod+A'], run: commands.selectAll },
  {
    group: 'Objects',
    title: 'Hide or show the selected objects',
    keys: ['I'],
    run: () => forSelected((ids) => ids.forEach((id) => void commands.toggleHidden(id))),
  },
  {
    group: 'Objects',
    title: 'Show only the selected objects',
    keys: ['S'],
    run: () =>
      forSelected((ids) => {
        const solo = store.soloObjects.value;
        const same = solo.size === ids.length && ids.every((id) => solo.has(id));
        store.soloObjects.value = new Set(same ? [] : ids);
      }),
  },
  {
    group: 'Objects',
    title: 'Clear the prompts of this frame',
    keys: ['C'],
    run: () => forSelected((ids) => ids.forEach((id) => void commands.clearPrompts(shownFrame(), id))),
  },
  {
    group: 'Objects',
    title: 'Delete the point under the pointer, or the selected objects',
    keys: ['Delete', 'Backspace'],
    run: () => {
      const point = store.hoveredPoint.value;
      if (point) void commands.removePoint(point.frame, point.object, point.index);
      else forSelected((ids) => void commands.deleteObjects(ids));
    },
  },
  { group: 'Edit', title: 'Undo', keys: ['Mod+Z'], run: () => void commands.undo() },
  {
    group: 'Edit',
    title: 'Redo',
    keys: ['Mod+Shift+Z', 'Mod+Y'],
    run: () => void commands.redo(),
  },
  {
    group: 'Edit',
    title: 'Cancel the stroke, the suggestions or tracking; then select nothing',
    keys: ['Escape'],
    run: () => {
      if (store.crosshair.value) store.crosshair.value = null;
      else if (store.proposals.value) commands.discardProposals();
      else if (store.passRunning.value) void commands.cancelPass();
      else commands.newObject();
    },
  },
  { group: 'View', title: 'Fit the frame', keys: ['F'], run: commands.fitView },
  { group: 'View', title: 'Actual pixels', keys: ['1'], run: () => commands.zoomTo(1) },
  { group: 'View', title: 'Zoom in', keys: ['+', '='], run: () => commands.zoomBy(1.25) },
  { group: 'View', title: 'Zoom out', keys: ['-'], run: () => commands.zoomBy(0.8) },
  {
    group: 'View',
    title: 'Masks on or off',
    keys: ['M'],
    run: () => {
      store.showMasks.value = !store.showMasks.value;
    },
  },
  {
    group: 'View',
    title: 'Before the last change (while held)',
    keys: ['Z'],
    run: () => {
      store.flicker.value = true;
    },
    release: () => {
      store.flicker.value = false;
    },
  },
  {
    group: 'View',
    title: 'This sheet',
    keys: ['?'],
    run: () => {
      store.dialog.value = 'help';
    },
  },
];

/** What the pointer does, for the help sheet. */
export const GESTURES: readonly HelpEntry[] = [
  { group: 'Pointer', title: 'Point on the object', keys: ['Click'] },
  { group: 'Pointer', title: 'Point outside of the object', keys: ['Alt+Click', 'Right click'] },
  { group: 'Pointer', title: 'Move a point', keys: ['Drag it'] },
  { group: 'Pointer', title: 'Remove a point', keys: ['Alt+Shift+Click'] },
  { group: 'Pointer', title: 'Select the object of a mask', keys: ['Mod+Click'] },
  { group: 'Pointer', title: 'Lasso or brush: take away', keys: ['Alt+Drag'] },
  { group: 'Pointer', title: 'Zoom', keys: ['Wheel', 'Pinch'] },
  { group: 'Pointer', title: 'Pan', keys: ['Space+Drag', 'Middle button', 'Two fingers'] },
];

/** Whether `Mod` is the Command key. */
export const isMac = /Mac|iP(hone|ad|od)/.test(navigator.platform);

/** The names of the keys for the help sheet: `Mod+Z` is `⌘Z` or `Ctrl+Z`. */
export function keyLabel(keys: string): string {
  const names: Record<string, string> = {
    ' ': 'Space',
    ArrowLeft: '←',
    ArrowRight: '→',
    ArrowUp: '↑',
    ArrowDown: '↓',
    Escape: 'Esc',
    Mod: isMac ? '⌘' : 'Ctrl',
    Alt: isMac ? '⌥' : 'Alt',
  };
  // The key itself may be a plus sign.
  return keys
    .split(/\+(?=.)/)
    .map((key) => names[key] ?? key)
    .join(isMac ? ' ' : '+');
}

/** Whether an event is typed into a field: then it is no shortcut. */
export function isTyping(target: EventTarget | null): boolean {
  if (!(target instanceof HTMLElement)) return false;
  if (target.isContentEditable || target.closest('[role="dialog"], dialog[open]')) return true;
  if (target instanceof HTMLInputElement) {
    return !['checkbox', 'radio', 'button', 'range', 'color'].includes(target.type);
  }
  return target instanceof HTMLTextAreaElement || target instanceof HTMLSelectElement;
}

function matches(keys: string, event: KeyboardEvent): boolean {
  const parts = keys.split(/\+(?=.)/);
  const key = parts.pop()!;
  const modifier = isMac ? event.metaKey : event.ctrlKey;
  const other = isMac ? event.ctrlKey : event.metaKey;
  if (parts.includes('Mod') !== modifier || other || event.altKey) return false;
  // Signs such as `?` need Shift on some keyboards: their own shape decides.
  if (/^[A-Z]$|^.{2,}$| /.test(key) && parts.includes('Shift') !== event.shiftKey) return false;
  return event.key.toLowerCase() === key.toLowerCase();
}

const held = new Map<string, Shortcut>();

export function onKeyDown(event: KeyboardEvent): void {
  if (store.route.value.page !== 'session' || store.dialog.value !== null) return;
  if (isTyping(event.target)) return;
  // Focused controls keep the keys that work them.
  const target = event.target instanceof HTMLElement ? event.target : null;
  const isControl = target?.closest('button, a, input, [role="slider"], [role="tab"]');
  if (isControl && (event.key === ' ' || event.key === 'Enter')) return;
  if (target?.closest('input, [role="slider"]') && event.key.startsWith('Arrow')) return;
  // The canvas handles the arrows of the cross hair and a held space bar itself.
  if (event.defaultPrevented) return;
  for (const shortcut of SHORTCUTS) {
    if (!shortcut.keys.some((keys) => matches(keys, event))) continue;
    event.preventDefault();
    if (shortcut.release) {
      if (event.repeat) return;
      held.set(event.key.toLowerCase(), shortcut);
    }
    shortcut.run(event);
    return;
  }
}

export function onKeyUp(event: KeyboardEvent): void {
  const shortcut = held.get(event.key.toLowerCase());
  if (!shortcut) return;
  held.delete(event.key.toLowerCase());
  shortcut.release?.();
}

/** Keys that are held when the window loses the focus send no key up. */
export function releaseAll(): void {
  for (const shortcut of held.values()) shortcut.release?.();
  held.clear();
}
