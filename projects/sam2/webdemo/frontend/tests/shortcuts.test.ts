import { afterEach, beforeEach, expect, it } from 'vitest';

import { SHORTCUTS, keyLabel, onKeyDown, onKeyUp, releaseAll } from '../src/shortcuts';
import * as store from '../src/store';
import { hello } from './messages';

function press(key: string, fields: KeyboardEventInit = {}, target: HTMLElement = document.body) {
  const event = new KeyboardEvent('keydown', { key, bubbles: true, cancelable: true, ...fields });
  target.addEventListener('keydown', onKeyDown, { once: true });
  target.dispatchEvent(event);
  return event.defaultPrevented;
}
const release = (key: string) => onKeyUp(new KeyboardEvent('keyup', { key }));

beforeEach(() => {
  store.route.value = { page: 'session', id: 's' };
  store.session.value = hello([]).session;
  store.currentFrame.value = 50;
  store.tool.value = 'point';
});
afterEach(() => {
  releaseAll();
  document.body.replaceChildren();
});

it('no key has two meanings', () => {
  const keys = SHORTCUTS.flatMap((shortcut) => shortcut.keys);
  expect(new Set(keys).size).toBe(keys.length);
});

it('tells Shift and Ctrl apart', () => {
  press('ArrowRight');
  expect(store.currentFrame.value).toBe(51);
  press('ArrowRight', { shiftKey: true });
  expect(store.currentFrame.value).toBe(61);
  // Ctrl and an arrow belong to the browser.
  expect(press('ArrowRight', { ctrlKey: true })).toBe(false);
  expect(store.currentFrame.value).toBe(61);
  press('B', { shiftKey: true });
  expect(store.tool.value).toBe('point');
  press('r');
  expect(store.tool.value).toBe('box');
});

it('leaves typing, dialogs and the keys of controls alone', () => {
  document.body.innerHTML =
    '<input id="name"><input id="range" type="range"><button id="button">B</button>' +
    '<div role="dialog"><button id="close">C</button></div>';
  const at = (id: string) => document.getElementById(id)!;
  expect(press('e', {}, at('name'))).toBe(false);
  expect(press('e', {}, at('close'))).toBe(false);
  expect(press('ArrowLeft', {}, at('range'))).toBe(false);
  expect(press(' ', {}, at('button'))).toBe(false);
  expect(store.tool.value).toBe('point');
  expect(press('e', {}, at('button'))).toBe(true);
  expect(store.tool.value).toBe('eraser');
});

it('does nothing on the start page', () => {
  store.route.value = { page: 'start' };
  expect(press('e')).toBe(false);
});

it('plays when the space bar is let go, unless it has panned', () => {
  press(' ');
  expect(store.playing.value).toBe(false);
  release(' ');
  expect(store.playing.value).toBe(true);
  press(' ');
  store.panKey.value = 'used';
  release(' ');
  expect(store.playing.value).toBe(true);
});

it('shows the masks of before only while the key is held', () => {
  press('z');
  press('z', { repeat: true });
  expect(store.flicker.value).toBe(true);
  releaseAll();
  expect(store.flicker.value).toBe(false);
});

it('names keys for the help sheet', () => {
  expect(['Mod+Shift+Z', ' ', '+', 'Shift+ArrowLeft'].map(keyLabel)).toEqual([
    'Ctrl+Shift+Z', 'Space', '+', 'Shift+←',
  ]);
});
