// How the frame is shown: zoom and pan, tools, effects, display settings and the theme.
import { batch } from '@preact/signals';

import type { Effect } from '../protocol';
import * as store from '../store';

export const canvasSize = { width: 0, height: 0 };
/** The whole frame is shown: it stays so when the window changes. */
let fitted = true;
const MAX_SCALE = 64;

/** The whole frame in the middle of the canvas. */
export function fitView(): void {
  const [height, width] = store.sizeOf(store.shownFrame.value ?? store.currentFrame.value);
  fitted = true;
  if (!height || !canvasSize.width) return;
  const scale = Math.min(canvasSize.width / width, canvasSize.height / height);
  store.view.value = {
    scale,
    x: (canvasSize.width - width * scale) / 2,
    y: (canvasSize.height - height * scale) / 2,
  };
}

/** Tells the view a new size of the canvas or of the frame. */
export function resizeView(width: number, height: number): void {
  Object.assign(canvasSize, { width, height });
  if (fitted) fitView();
}

/** Zooms about a point of the canvas (CSS pixels), the middle by default. */
export function zoomBy(
  factor: number,
  x = canvasSize.width / 2,
  y = canvasSize.height / 2,
): void {
  const old = store.view.value;
  const [height, width] = store.sizeOf(store.shownFrame.value ?? store.currentFrame.value);
  const fit = Math.min(canvasSize.width / (width || 1), canvasSize.height / (height || 1));
  const scale = Math.max(Math.min(fit, 1) / 4, Math.min(MAX_SCALE, old.scale * factor));
  const ratio = scale / old.scale;
  fitted = false;
  store.view.value = { scale, x: x - (x - old.x) * ratio, y: y - (y - old.y) * ratio };
}

export function zoomTo(scale: number): void {
  zoomBy(scale / store.view.value.scale);
}

export function panBy(x: number, y: number): void {
  fitted = false;
  const old = store.view.value;
  store.view.value = { ...old, x: old.x + x, y: old.y + y };
}

export function setTool(tool: store.ToolName): void {
  store.tool.value = tool;
}

const MIN_BRUSH_RADIUS = 1;
export const MAX_BRUSH_RADIUS = 400;

export function setBrushRadius(radius: number): void {
  store.brushRadius.value = Math.max(MIN_BRUSH_RADIUS, Math.min(MAX_BRUSH_RADIUS, radius));
}

export function setEffect(fields: Partial<Effect>): void {
  store.effect.value = { ...store.effect.value, ...fields };
}

export function resetDisplay(): void {
  batch(() => {
    store.brightness.value = 0;
    store.contrast.value = 1;
  });
}

const THEME_KEY = 'mmsam2-theme';

export function setTheme(theme: store.Theme): void {
  store.theme.value = theme;
  if (theme === 'system') delete document.documentElement.dataset['theme'];
  else document.documentElement.dataset['theme'] = theme;
  try {
    localStorage.setItem(THEME_KEY, theme);
  } catch {
    // Private windows may refuse storage; the theme then lasts as long as the page.
  }
}

export function restoreTheme(): void {
  try {
    const stored = localStorage.getItem(THEME_KEY);
    if (stored === 'light' || stored === 'dark') setTheme(stored);
  } catch {
    // See above.
  }
}
