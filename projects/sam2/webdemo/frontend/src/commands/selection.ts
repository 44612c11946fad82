// Which objects are selected, and which are shown alone.
import { batch } from '@preact/signals';

import * as store from '../store';

/** The next prompt makes a new object. */
export function newObject(): void {
  batch(() => {
    store.activeObject.value = null;
    store.selection.value = new Set();
  });
}

export function selectObject(id: number | null, mode: 'only' | 'toggle' | 'range' = 'only'): void {
  batch(() => {
    if (id === null) {
      newObject();
      return;
    }
    const selected = new Set(store.selection.value);
    if (mode === 'toggle') {
      if (selected.delete(id)) {
        store.activeObject.value = [...selected].at(-1) ?? null;
      } else {
        selected.add(id);
        store.activeObject.value = id;
      }
    } else if (mode === 'range' && store.activeObject.value !== null) {
      const ids = [...store.objects.value.keys()];
      const from = ids.indexOf(store.activeObject.value);
      const to = ids.indexOf(id);
      for (const other of ids.slice(Math.min(from, to), Math.max(from, to) + 1)) selected.add(other);
    } else {
      selected.clear();
      selected.add(id);
      store.activeObject.value = id;
    }
    store.selection.value = selected;
  });
}

export function selectAll(): void {
  store.selection.value = new Set(store.objects.value.keys());
  store.activeObject.value ??= [...store.selection.value].at(-1) ?? null;
}

/** Makes the object before or after the active one active. */
export function selectNeighbour(step: 1 | -1): void {
  const ids = [...store.objects.value.keys()];
  if (!ids.length) return;
  const active = store.activeObject.value;
  const index = active === null ? (step > 0 ? -1 : 0) : ids.indexOf(active);
  selectObject(ids[(index + step + ids.length) % ids.length]!);
}

/** Shows only this object (again: all). */
export function toggleSolo(id: number): void {
  const solo = new Set(store.soloObjects.value);
  if (!solo.delete(id)) solo.add(id);
  store.soloObjects.value = solo;
}
