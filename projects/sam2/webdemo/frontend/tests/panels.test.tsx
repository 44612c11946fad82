import { render } from 'preact';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

import { App } from '../src/app';
import * as commands from '../src/commands';
import { Workspace } from '../src/panels/workspace';
import type { SessionEntry } from '../src/protocol';
import { GESTURES, SHORTCUTS, keyLabel, onKeyDown } from '../src/shortcuts';
import { StartPage } from '../src/start/start-page';
import * as store from '../src/store';
import { FakeSocket, object } from './messages';
import { answer, commandOf, openSession, settle } from './page';

const SCRIPT = '<img src=x onerror="alert(1)"><script>alert(2)</script>';
const INFO = {
  version: '1',
  model: { name: 'mini', config: 'mini.py', checkpoint: 'mini.pth', device: 'cpu', image_size: 128 },
  models: ['mini', 'tiny'],
  examples: [{ name: 'balls', title: 'Bouncing balls', num_frames: 48 }],
  roots: ['/data'],
  max_upload_bytes: 1e9,
  features: { text: true, training: true },
  export_formats: [
    { name: 'davis', title: 'DAVIS' },
    { name: 'coco', title: 'COCO' },
  ],
  import_formats: [{ name: 'coco', title: 'COCO' }],
};
const SESSION: SessionEntry = {
  id: 'a',
  name: SCRIPT,
  source: '/data/x.mp4',
  kind: 'video',
  num_frames: 200,
  num_objects: 3,
  modified: 1_700_000_000,
  state: 'closed',
  crashed: true,
  key: 'k',
};
/** What the server of the test answers by the path after `api/`. */
let answers: Record<string, unknown>;
let requests: { method: string; path: string; body: unknown }[];
let root: HTMLElement;

function find(testId: string, within: ParentNode = document): HTMLElement {
  const element = within.querySelector<HTMLElement>(`[data-testid="${testId}"]`);
  expect(element, testId).not.toBeNull();
  return element!;
}

async function click(testId: string, within?: ParentNode): Promise<void> {
  // What the server answered may take a moment to be drawn.
  const element = await vi.waitFor(() => find(testId, within), { timeout: 5_000 });
  element.click();
  await settle();
}

function row(id: number): HTMLElement {
  return document.querySelector<HTMLElement>(`[data-testid="object-row"][data-object="${id}"]`)!;
}

async function type(element: HTMLElement, text: string): Promise<void> {
  const input = element as HTMLInputElement;
  input.value = text;
  input.dispatchEvent(new Event('input', { bubbles: true }));
  input.dispatchEvent(new Event('blur'));
  await settle();
}

beforeEach(() => {
  answers = {
    info: INFO,
    sessions: [SESSION],
    browse: { path: '', parent: null, entries: [] },
    training: [],
    models: { current: INFO.model, models: INFO.models },
  };
  requests = [];
  vi.stubGlobal('fetch', (address: string, init: RequestInit) => {
    const path = address.split('/api/')[1]!;
    requests.push({ method: init.method!, path, body: init.body && JSON.parse(init.body as string) });
    const answer = answers[path.split('?')[0]!] ?? {};
    return Promise.resolve(new Response(JSON.stringify(answer), { status: 200 }));
  });
  // Canvases of the test's page cannot draw.
  HTMLCanvasElement.prototype.getContext = (() =>
    new Proxy({ canvas: document.body }, { get: (target, key) => Reflect.get(target, key) ?? (() => undefined), set: () => true })) as never;
  Element.prototype.scrollIntoView ??= () => undefined;
  HTMLElement.prototype.showPopover ??= () => undefined;
  root = document.body.appendChild(document.createElement('div'));
  store.info.value = INFO;
  store.dialog.value = null;
  store.notices.value = [];
});

afterEach(() => {
  render(null, root);
  root.remove();
  commands.disconnect();
});

async function openWorkspace(...objects: Parameters<typeof openSession>): Promise<FakeSocket> {
  const socket = await openSession(...objects);
  render(<Workspace viewer={null} />, root);
  await settle();
  return socket;
}

/** Controls without an accessible name. */
function nameless(): string[] {
  const controls = document.querySelectorAll<HTMLElement>(
    'button, a, input, select, textarea, dialog, [role="slider"], [role="grid"], [role="radiogroup"], [role="toolbar"], [role="separator"], progress',
  );
  return [...controls]
    .filter((control) => {
      const label = control.getAttribute('aria-label') ?? control.closest('label')?.textContent;
      const by = control.getAttribute('aria-labelledby');
      const text = control.matches('button, a') ? control.textContent : '';
      return !(label || text || (by && document.getElementById(by)?.textContent))?.trim();
    })
    .map((control) => control.outerHTML.slice(0, 120));
}

describe('the start page', () => {
  it('shows names of sessions as text, and says which was interrupted', async () => {
    render(<StartPage />, root);
    await settle();
    expect(find('session-open').textContent).toBe(SCRIPT);
    expect(root.querySelector('script, img[src="x"]')).toBeNull();
    expect(find('banner-crashed').textContent).toContain('interrupted');
    expect(nameless()).toEqual([]);
  });

  it('opens an example, and renames and deletes a session only after a question', async () => {
    render(<StartPage />, root);
    await settle();
    await click('example-balls');
    expect(requests).toContainEqual({ method: 'POST', path: 'sessions', body: { source: 'example:balls' } });
    await click('session-rename');
    await type(find('session-new-name'), 'Better');
    expect(requests).toContainEqual({ method: 'PATCH', path: 'sessions/a', body: { name: 'Better' } });
    await click('session-delete');
    expect(requests.some((request) => request.method === 'DELETE')).toBe(false);
    expect(nameless()).toEqual([]);
    await click('delete-confirm');
    expect(requests.some((request) => request.method === 'DELETE')).toBe(true);
  });

  it('finds a video that was moved', async () => {
    answers['sessions'] = [{ ...SESSION, state: 'missing video' }];
    answers['browse'] = {
      path: '/data',
      parent: null,
      entries: [{ name: 'y.mp4', path: '/data/y.mp4', kind: 'video', size: 5 }],
    };
    render(<StartPage />, root);
    await settle();
    await click('session-find');
    expect(nameless()).toEqual([]);
    await click('browser-entry', find('find-dialog'));
    expect(requests).toContainEqual({ method: 'PATCH', path: 'sessions/a', body: { source: '/data/y.mp4' } });
    await settle();
    expect(document.querySelector('dialog')).toBeNull();
  });

  it('asks for the token where the server wants one, also at the address of a session', async () => {
    vi.stubGlobal('WebSocket', FakeSocket);
    location.hash = '#/sessions/s';
    store.needsToken.value = true;
    render(<App />, root);
    await vi.waitFor(() => expect(store.route.value.page).toBe('session'));
    await settle();
    expect(find('token-form')).toBeTruthy();
    expect(nameless()).toEqual([]);
    render(null, root);
    location.hash = '';
    store.route.value = { page: 'start' };
    store.needsToken.value = false;
  });

  it('opens a folder of images in the way that one chooses', async () => {
    answers['browse'] = {
      path: '/data',
      parent: null,
      entries: [{ name: 'shots', path: '/data/shots', kind: 'frames', size: null }],
    };
    render(<StartPage />, root);
    await settle();
    await click('browser-more');
    await click('open-as-images');
    const body = { source: '/data/shots', kind: 'images' };
    expect(requests).toContainEqual({ method: 'POST', path: 'sessions', body });
  });
});

describe('the workspace', () => {
  const objects = [object(1, { name: SCRIPT }), object(2, { hidden: true }), object(3)];

  it('shows names of objects as text, and every control has a name', async () => {
    await openWorkspace(objects);
    expect((find('object-name') as HTMLInputElement).value).toBe(SCRIPT);
    expect(find('track-head').textContent).toBe(SCRIPT);
    expect(root.querySelector('script, img[src="x"]')).toBeNull();
    expect(nameless()).toEqual([]);
    for (const tab of ['proposals', 'effects']) {
      await click(`tab-${tab}`);
      expect(nameless()).toEqual([]);
    }
  });

  it.each(['export', 'import', 'train', 'models', 'help'] as const)('names every control of the dialog %s', async (name) => {
    await openWorkspace(objects);
    store.dialog.value = name;
    await settle();
    expect(document.querySelector('dialog')).not.toBeNull();
    expect(nameless()).toEqual([]);
  });

  it('leaves the keys to an open dialog, wherever the focus is', async () => {
    const socket = await openWorkspace(objects);
    store.route.value = { page: 'session', id: 's' };
    const press = (key: string) => {
      const event = new KeyboardEvent('keydown', { key, bubbles: true, cancelable: true });
      Object.defineProperty(event, 'target', { value: document.body });
      onKeyDown(event);
      return event.defaultPrevented;
    };
    expect(press('v')).toBe(true);
    await click('open-models');
    expect(press('Escape')).toBe(false); // closes the dialog
    expect(press('Delete')).toBe(false);
    expect(commandOf(socket)).toBeUndefined();
    store.route.value = { page: 'start' };
  });

  it('sends what one changes in a row of the list', async () => {
    const socket = await openWorkspace(objects);
    await type(find('object-name', row(3)), '  Dog ');
    expect(commandOf(socket)).toEqual({ type: 'update_object', object: 3, name: 'Dog' });
    await type(find('object-category', row(3)), 'animal');
    expect(commandOf(socket)).toEqual({ type: 'update_object', object: 3, category: 'animal' });
    await click('object-hide', row(2));
    expect(commandOf(socket)).toEqual({ type: 'update_object', object: 2, hidden: false });
    await click('object-lock', row(2));
    expect(commandOf(socket)).toEqual({ type: 'update_object', object: 2, locked: true });
    await click('object-color', row(3));
    document.querySelectorAll<HTMLElement>('[data-testid="color-choice"]')[4]!.click();
    await settle();
    expect(commandOf(socket)).toEqual({ type: 'update_object', object: 3, color: '#007858' });
    await click('object-delete', row(3));
    expect(commandOf(socket)).toEqual({ type: 'delete_objects', objects: [3] });
  });

  it('shows one object alone without telling the server', async () => {
    const socket = await openWorkspace(objects);
    await click('object-solo', row(3));
    expect(store.visibleObjects.value.map(({ id }) => id)).toEqual([3]);
    await click('show-all');
    expect(store.visibleObjects.value.map(({ id }) => id)).toEqual([1, 3]);
    expect(commandOf(socket)).toBeUndefined();
  });

  it('filters a long list by name, by class and by what is on the frame', async () => {
    const many = Array.from({ length: 12 }, (_, i) => object(i + 1, { category: i === 6 ? 'animal' : '' }));
    many[9] = object(10, { prompts: { 0: { points: [[1, 2, 1]], box: null, mask: false } } });
    await openWorkspace(many);
    const ids = () =>
      [...document.querySelectorAll<HTMLElement>('[data-testid="object-row"]')].map((item) => Number(item.dataset['object']));
    const filter = find('object-filter') as HTMLInputElement;
    const write = async (text: string) => {
      filter.value = text;
      filter.dispatchEvent(new Event('input', { bubbles: true }));
      await settle();
    };
    await write('object 1');
    expect(ids()).toEqual([1, 10, 11, 12]);
    await write('ANIMAL');
    expect(ids()).toEqual([7]);
    await write('');
    await click('object-filter-frame');
    expect(ids()).toEqual([1, 10]); // the selected one stays in the list
  });

  it('prompts no object of another still, and lists those of the shown one', async () => {
    const at = (frame: number) => ({ prompts: { [frame]: { points: [[1, 2, 1] as const], box: null, mask: false } } });
    const socket = await openSession([object(1, at(0)), object(2, at(5)), object(3)]);
    store.session.value = { ...store.session.value!, kind: 'images' };
    render(<Workspace viewer={null} />, root);
    await settle();
    const ids = () =>
      [...document.querySelectorAll<HTMLElement>('[data-testid="object-row"]')].map((item) => item.dataset['object']);
    expect(ids()).toEqual(['1']);
    commands.seek(5);
    await settle();
    expect(store.activeObject.value).toBe(2);
    expect(ids()).toEqual(['2']);
    commands.seek(7);
    await settle();
    void commands.addPoint(7, [10, 20, 1]);
    await settle();
    expect(commandOf(socket)).toMatchObject({ type: 'prompt', frame: 7, object: null });
  });

  it('merges the selected objects into the active one, and splits one at the frame', async () => {
    const socket = await openWorkspace(objects);
    expect((find('merge') as HTMLButtonElement).disabled).toBe(true);
    await click('object-select', row(3));
    await click('merge');
    expect(commandOf(socket)).toEqual({ type: 'merge_objects', objects: [1], into: 3 });
    expect((find('split') as HTMLButtonElement).disabled).toBe(true);
    row(2).click();
    commands.seek(40);
    await settle();
    await click('split');
    expect(commandOf(socket)).toEqual({ type: 'split_object', object: 2, frame: 40 });
  });

  it('lists the prompts of the frame, and removes one of them', async () => {
    const prompts = { 7: { points: [[10, 20, 1], [30, 40, 0]] as const, box: [0, 0, 50, 60] as const, mask: false } };
    const socket = await openWorkspace([object(1, { prompts })]);
    expect(find('prompt-list').textContent).toContain('No prompts');
    commands.seek(7);
    await settle();
    const points = document.querySelectorAll('[data-testid="prompt-point"]');
    expect([...points].map((item) => item.textContent)).toEqual(['On at 10, 20', 'Off at 30, 40']);
    await click('prompt-remove', points[0]!);
    expect(commandOf(socket)).toEqual({ type: 'prompt', frame: 7, object: 1, points: [[30, 40, 0]], box: [0, 0, 50, 60] });
    await click('clear-prompts');
    expect(commandOf(socket)).toEqual({ type: 'clear_prompts', frame: 7, object: 1 });
    await click('lock-frame');
    expect(commandOf(socket)).toEqual({ type: 'lock_frames', object: 1, start: 7, stop: 8, locked: true });
  });

  it('tracks all objects, or the selected ones, in the direction of the button', async () => {
    const socket = await openWorkspace(objects);
    commands.seek(30);
    await settle();
    await click('track-forward');
    expect(commandOf(socket)).toEqual({ type: 'propagate', objects: null, start: 30, stop: null, direction: 'forward' });
    const scope = find('track-scope') as HTMLSelectElement;
    scope.value = 'selected';
    scope.dispatchEvent(new Event('change', { bubbles: true }));
    await settle();
    await click('track-backward');
    expect(commandOf(socket)).toEqual({ type: 'propagate', objects: [1], start: 30, stop: null, direction: 'backward' });
    await click('refine');
    expect(commandOf(socket)).toEqual({ type: 'refine', objects: [1], frame: 30 });
  });

  it('shows a running pass and stops it', async () => {
    const socket = await openWorkspace(objects);
    socket.say({ type: 'pass', state: 'running', label: 'Track all', objects: [1, 3], frame: 40, done: 10, total: 160 });
    await settle();
    expect(find('pass').textContent).toContain('10 / 160');
    const rows = [...document.querySelectorAll<HTMLElement>('[data-testid="track-progress"]')];
    expect(rows.map((progress) => progress.dataset['object'])).toEqual(['1', '3']);
    expect((find('track-forward') as HTMLButtonElement).disabled).toBe(true);
    await click('pass-cancel');
    expect(commandOf(socket)).toEqual({ type: 'cancel' });
    socket.say({ type: 'pass', state: 'cancelled', label: 'Track all', objects: [1, 3], frame: 41, done: 11, total: 160 });
    await settle();
    expect((find('track-forward') as HTMLButtonElement).disabled).toBe(false);
  });

  it('acts on a range that is chosen with the keyboard', async () => {
    const socket = await openWorkspace(objects);
    commands.seek(20);
    const ruler = find('timeline-ruler');
    for (let i = 0; i < 4; i += 1) {
      ruler.dispatchEvent(new KeyboardEvent('keydown', { key: 'ArrowRight', shiftKey: true, bubbles: true }));
    }
    ruler.dispatchEvent(new KeyboardEvent('keydown', { key: 'ArrowLeft', shiftKey: true, bubbles: true }));
    await settle();
    expect(store.rangeSelection.value).toEqual([20, 24]);
    await click('range-track');
    expect(commandOf(socket)).toEqual({ type: 'propagate', objects: [1], start: 20, stop: 24, direction: 'forward' });
    await click('range-lock');
    expect(commandOf(socket)).toEqual({ type: 'lock_frames', object: 1, start: 20, stop: 24, locked: true });
    await click('range-delete');
    expect(commandOf(socket)).toEqual({ type: 'delete_masks', object: 1, start: 20, stop: 24 });
    await click('range-clear');
    expect(store.rangeSelection.value).toBeNull();
  });

  it('names what undo and redo would do', async () => {
    const socket = await openWorkspace(objects);
    expect((find('undo') as HTMLButtonElement).disabled).toBe(true);
    socket.say({
      type: 'changed',
      objects: {},
      order: [1, 2, 3],
      categories: [],
      broken_frames: [],
      undo: 'Move a point of Dog',
      redo: 'Delete Cat',
      masks: [],
      revision: 2,
    });
    await settle();
    expect(find('undo').getAttribute('aria-label')).toBe('Undo: Move a point of Dog');
    expect(find('redo').getAttribute('aria-label')).toBe('Redo: Delete Cat');
    await click('redo');
    expect(commandOf(socket)).toEqual({ type: 'redo' });
  });

  it('accepts the selected suggestions with their class', async () => {
    const socket = await openWorkspace(objects);
    await click('tab-proposals');
    await click('propose');
    expect(commandOf(socket)).toEqual({
      type: 'propose',
      frame: 0,
      settings: { points_per_side: 16, pred_iou_thresh: 0.5, stability_score_thresh: 0.5 },
    });
    const proposals = [0, 1, 2].map((index) => ({ index, score: 0.9, label: SCRIPT }));
    socket.say({ type: 'proposals', frame: 0, proposals });
    await answer(socket);
    expect(root.querySelector('script, img[src="x"]')).toBeNull();
    document.querySelectorAll<HTMLElement>('[data-testid="proposal"] input')[2]!.click();
    await settle();
    const category = find('proposals-category') as HTMLInputElement;
    category.value = 'animal';
    category.dispatchEvent(new Event('input', { bubbles: true }));
    await settle();
    await click('accept-selected');
    expect(commandOf(socket)).toEqual({ type: 'accept_proposals', frame: 0, indices: [2], category: 'animal' });
  });

  it('asks more of the masks of a large model', async () => {
    const socket = await openWorkspace(objects);
    store.info.value = { ...INFO, model: { ...INFO.model, image_size: [1024, 1024] } };
    await click('tab-proposals');
    await click('propose');
    expect(commandOf(socket)).toMatchObject({
      settings: { pred_iou_thresh: 0.7, stability_score_thresh: 0.9 },
    });
  });

  it('keeps the message of a full disk, and says when the connection is lost', async () => {
    const socket = await openWorkspace(objects);
    socket.say({ type: 'notice', level: 'error', message: 'No space left on the disk: delete something.' });
    socket.say({ type: 'notice', level: 'warning', message: SCRIPT });
    await settle();
    expect(find('banner-notice').textContent).toContain('No space left');
    expect(find('notice-warning').textContent).toBe(SCRIPT);
    expect(find('notices').getAttribute('aria-live')).toBe('polite');
    socket.drop();
    await settle();
    expect(find('banner-connection')).toBeTruthy();
    expect(find('connection').dataset['state']).toBe('reconnecting');
  });

  it('renders a film of the chosen range with the effect of the page', async () => {
    await openWorkspace(objects);
    answers['sessions/s/renders'] = { job: 'j' };
    answers['jobs/j'] = { state: 'done', progress: 1, error: null, name: 'Street.gif' };
    store.rangeSelection.value = [5, 25];
    await click('tab-effects');
    await click('effect-blur');
    await click('effects-export');
    await click('export-what-film');
    await click('film-kind-gif');
    await click('film-start-render');
    expect(requests.find((request) => request.path === 'sessions/s/renders')!.body).toEqual({
      kind: 'gif',
      effect: { ...store.DEFAULT_EFFECT, name: 'blur' },
      start: 5,
      stop: 25,
    });
    await vi.waitFor(() => expect(find('job-download').getAttribute('href')).toContain('api/jobs/j/file'), 3000);
    commands.setEffect(store.DEFAULT_EFFECT);
  });

  it('exports the chosen format, without the frames if one wants', async () => {
    await openWorkspace(objects);
    answers['sessions/s/exports'] = { job: 'k' };
    answers['jobs/k'] = { state: 'done', progress: 1, error: null, name: 'clip.zip' };
    await click('open-export');
    await click('export-format-coco');
    await click('export-with-frames');
    await click('export-start');
    const body = { format: 'coco', with_frames: false };
    expect(requests).toContainEqual({ method: 'POST', path: 'sessions/s/exports', body });
  });

  it('starts a training with the chosen sessions, and offers its best checkpoint', async () => {
    await openWorkspace(objects);
    answers['training'] = [
      {
        run: 'r',
        name: 'Street',
        state: 'done',
        message: '',
        progress: 1,
        curves: { loss: [[0, 2], [10, 1]], 'J&F': [[1, 0.5]] },
        checkpoints: ['best.pth', 'last.pth'],
        best: 'best.pth',
      },
    ];
    await click('open-train');
    const form = document.querySelector<HTMLFormElement>('[data-testid="train-dialog"] form')!;
    form.dispatchEvent(new Event('submit', { bubbles: true, cancelable: true }));
    await settle();
    expect(requests.find((request) => request.method === 'POST' && request.path === 'training')!.body).toEqual({
      sessions: ['s'],
      name: 'clip',
      epochs: 20,
    });
    expect(document.querySelectorAll('.curve-line').length).toBe(2);
    await click('use-best');
    expect(requests.find((request) => request.path === 'models/use')!.body).toEqual({ name: 'run:r/best.pth' });
  });
});

describe('the help sheet', () => {
  it('shows every shortcut and gesture with all of its keys', async () => {
    await openWorkspace([]);
    await click('open-help');
    const shown = [...document.querySelectorAll('[data-testid="shortcut"]')].map((entry) => [
      entry.querySelector('dt')!.textContent,
      [...entry.querySelectorAll('kbd')].map((key) => key.textContent),
    ]);
    const expected = [...SHORTCUTS, ...GESTURES].map(({ title, keys }) => [title, keys.map(keyLabel)]);
    expect(shown.length).toBe(expected.length);
    expect(shown).toEqual(expect.arrayContaining(expected));
  });

  it('has no key twice', () => {
    const keys = SHORTCUTS.flatMap((shortcut) => shortcut.keys.map((key) => key.toLowerCase()));
    expect(keys.length).toBe(new Set(keys).size);
  });
});
