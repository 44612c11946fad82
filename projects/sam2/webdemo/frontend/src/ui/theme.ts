import { computed, signal } from '@preact/signals';

import * as store from '../store';

const system = window.matchMedia('(prefers-color-scheme: dark)');
const systemIsDark = signal(system.matches);
system.addEventListener('change', () => {
  systemIsDark.value = system.matches;
});

/** The theme in force; canvases read their colours again when it changes. */
export const isDark = computed(() =>
  store.theme.value === 'system' ? systemIsDark.value : store.theme.value === 'dark',
);
