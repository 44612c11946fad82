// Line icons on a 20 x 20 grid. Each entry is the `d` of a stroked path; a name
// in `FILLED` is filled as well.

const PATHS = {
  back: 'M12 4 6 10l6 6',
  backward: 'M13 5 6 10l7 5zM16 5v10',
  blur: 'M10 2.5c3 3.5 5 6 5 9a5 5 0 0 1-10 0c0-3 2-5.5 5-9zM10 14a2.5 2.5 0 0 1-2.5-2.5',
  both: 'M8 6 3 10l5 4zM12 6l5 4-5 4z',
  box: 'M4 5h12v10H4zM2.5 3.5h3v3h-3zM14.5 13.5h3v3h-3z',
  brightness: 'M10 6.5a3.5 3.5 0 1 0 0 7 3.5 3.5 0 0 0 0-7zM10 2v1.5M10 16.5V18M2 10h1.5M16.5 10H18M4.3 4.3l1.1 1.1M14.6 14.6l1.1 1.1M15.7 4.3l-1.1 1.1M5.4 14.6l-1.1 1.1',
  brush: 'M16.5 3.5c-3 1-6.5 4.5-8 7l2 2c2.5-1.5 6-5 7-8zM8 11c-2 0-3.2 1-3.5 3-.2 1.3-.8 2-1.5 2.5 3 .8 6.5 0 7-3.5z',
  check: 'm4 10.5 4 4 8-9',
  close: 'm5 5 10 10M15 5 5 15',
  contrast: 'M10 3a7 7 0 1 0 0 14 7 7 0 0 0 0-14zM10 3v14M10 6h5.5M10 9h6.8M10 12h6.5M10 15h4.5',
  effects: 'M8 3.5 9.5 8 14 9.5 9.5 11 8 15.5 6.5 11 2 9.5 6.5 8zM15.5 12.5l.7 2.3 2.3.7-2.3.7-.7 2.3-.7-2.3-2.3-.7 2.3-.7z',
  error: 'M7 2.5h6L17.5 7v6L13 17.5H7L2.5 13V7zM10 6v5M10 13.8v.2',
  eraser: 'm8 16-4.5-4.5a1 1 0 0 1 0-1.5L10 3.5a1 1 0 0 1 1.5 0l5 5a1 1 0 0 1 0 1.5l-6 6zM6.5 7l6.5 6.5M8 16h8.5',
  export: 'M10 12V3M6.5 6.5 10 3l3.5 3.5M3.5 11.5V16a1 1 0 0 0 1 1h11a1 1 0 0 0 1-1v-4.5',
  eye: 'M2 10c2-3.5 4.7-5.2 8-5.2s6 1.7 8 5.2c-2 3.5-4.7 5.2-8 5.2S4 13.5 2 10zM10 7.5a2.5 2.5 0 1 0 0 5 2.5 2.5 0 0 0 0-5z',
  eyeOff: 'M4.5 6.8C3.5 7.6 2.7 8.7 2 10c2 3.5 4.7 5.2 8 5.2 1.2 0 2.4-.2 3.4-.7M8 5c.6-.1 1.3-.2 2-.2 3.3 0 6 1.7 8 5.2-.6 1-1.2 1.9-1.9 2.6M3 3l14 14',
  file: 'M5 2.5h6.5L15.5 7v10.5H5zM11 2.5V7.5h4.5',
  film: 'M3 4h14v12H3zM6.5 4v12M13.5 4v12M3 8h3.5M3 12h3.5M13.5 8H17M13.5 12H17',
  fit: 'M3 7.5V3.5h4M13 3.5h4v4M17 12.5v4h-4M7 16.5H3v-4',
  flicker: 'M3 4.5h8v8H3zM9 9.5v6h8v-8h-6',
  folder: 'M2.5 5a1 1 0 0 1 1-1h4l2 2.5h7a1 1 0 0 1 1 1V15a1 1 0 0 1-1 1h-13a1 1 0 0 1-1-1z',
  forward: 'M7 5l7 5-7 5zM4 5v10',
  hand: 'M7 10V4.8a1.2 1.2 0 0 1 2.4 0V9M9.4 9V3.7a1.2 1.2 0 0 1 2.4 0V9M11.8 9V4.8a1.2 1.2 0 0 1 2.4 0V11c0 4-1.5 6.5-4.7 6.5-2.5 0-3.5-1-4.7-3.5L3.2 11c-.5-1.3 1-2 1.8-1L7 12z',
  help: 'M7 7.5C7 5.5 8.3 4.5 10 4.5s3 1 3 2.7c0 2.3-3 2.3-3 4.8M10 15.3v.2',
  home: 'm3 9.5 7-6 7 6M5 8v8.5h10V8',
  image: 'M3 4h14v12H3zM3.5 14l4-4.5 3.5 3.5 2-2 3.5 3.5M13 7.5v.1',
  import: 'M10 3v9M6.5 8.5 10 12l3.5-3.5M3.5 11.5V16a1 1 0 0 0 1 1h11a1 1 0 0 0 1-1v-4.5',
  info: 'M10 2.5a7.5 7.5 0 1 0 0 15 7.5 7.5 0 0 0 0-15zM10 9v5M10 6.2v.2',
  lasso: 'M10 3.5c4 0 7 2 7 4.7s-3 4.8-7 4.8-7-2-7-4.8 3-4.7 7-4.7zM6 12c-1.5 1-1.5 2.5 0 2.5s2 2-.5 3',
  lock: 'M5 9h10v8H5zM7 9V6a3 3 0 0 1 6 0v3M10 12v2',
  merge: 'M4 3.5v3c0 3.5 6 3 6 6.5v4M16 3.5v3c0 3.5-6 3-6 6.5M7.5 14.5l2.5 2.5 2.5-2.5',
  minus: 'M4 10h12',
  model: 'M10 2.5 16.5 6v8L10 17.5 3.5 14V6zM3.5 6 10 9.7 16.5 6M10 9.7v7.8',
  monitor: 'M3 4h14v9.5H3zM7.5 17h5M10 13.5V17',
  moon: 'M16.5 12A7 7 0 0 1 8 3.5a7 7 0 1 0 8.5 8.5z',
  more: 'M4.5 10h.1M10 10h.1M15.5 10h.1',
  next: 'm8 4 6 6-6 6',
  nextLow: 'M3 5c3 0 3 8 6 8s2-3 4-3M13 6l4 4-4 4',
  pause: 'M6.5 4.5v11M13.5 4.5v11',
  pencil: 'M13.5 3.5l3 3L7 16l-4 1 1-4z',
  play: 'M6 4v12l10-6z',
  plus: 'M10 4v12M4 10h12',
  point: 'M10 3v14M3 10h14M10 7a3 3 0 1 0 0 6 3 3 0 0 0 0-6z',
  pixelate: 'M3 3h14v14H3zM3 7.7h14M3 12.3h14M7.7 3v14M12.3 3v14',
  previousLow: 'M17 5c-3 0-3 8-6 8s-2-3-4-3M7 6l-4 4 4 4',
  range: 'M4 4v12M16 4v12M7 10h6M8.5 8l-2 2 2 2M11.5 8l2 2-2 2',
  refresh: 'M16 10a6 6 0 1 1-1.8-4.3M16.5 3v3.5H13',
  redo: 'M12 4l4 4-4 4M16 8H8a4 4 0 0 0 0 8h3',
  refine: 'M6 10.5 3 10.5M17 10.5h-3M10 3.5v2.5M10 14v3M10 7a3.3 3.3 0 1 0 0 6.6A3.3 3.3 0 0 0 10 7z',
  search: 'M8.5 3.5a5 5 0 1 0 0 10 5 5 0 0 0 0-10zM12.2 12.2 16.5 16.5',
  select: 'M5 3l11 6.5-5 1.2L8.5 16z',
  solo: 'M10 3a7 7 0 1 0 0 14 7 7 0 0 0 0-14zM10 8.2v.1a1.7 1.7 0 1 0 0 3.4 1.7 1.7 0 0 0 0-3.4z',
  split: 'M10 3v4c0 3.5-6 3-6 6.5V17M10 7c0 3.5 6 3 6 6.5V17M1.8 14.8 4 17l2.2-2.2M13.8 14.8 16 17l2.2-2.2',
  stepBack: 'M13 5 7 10l6 5',
  stepForward: 'm7 5 6 5-6 5',
  still: 'M3 6h3.5L8 4h4l1.5 2H17v10H3zM10 8a3 3 0 1 0 0 6 3 3 0 0 0 0-6z',
  stop: 'M5 5h10v10H5z',
  sun: 'M10 6.5a3.5 3.5 0 1 0 0 7 3.5 3.5 0 0 0 0-7zM10 2v1.5M10 16.5V18M2 10h1.5M16.5 10H18M4.3 4.3l1.1 1.1M14.6 14.6l1.1 1.1M15.7 4.3l-1.1 1.1M5.4 14.6l-1.1 1.1',
  text: 'M4 6V4h12v2M10 4v12M7.5 16h5',
  toEnd: 'M5 5l7 5-7 5zM15 5v10',
  toStart: 'M15 5 8 10l7 5zM5 5v10',
  train: 'M3 3v14h14M6 13l3.5-4 2.5 2L16.5 5.5M13 5.5h3.5V9',
  trash: 'M3.5 5.5h13M8 5.5V3.5h4v2M5 5.5l.8 11.5h8.4L15 5.5M8.5 8.5v5.5M11.5 8.5v5.5',
  undo: 'M8 4 4 8l4 4M4 8h8a4 4 0 0 1 0 8H9',
  unlock: 'M5 9h10v8H5zM7 9V6a3 3 0 0 1 5.8-1M10 12v2',
  up: 'm5 12 5-5 5 5',
  upload: 'M10 13V5M6.5 8.5 10 5l3.5 3.5M6 16.5a4 4 0 0 1-.8-7.9A5 5 0 0 1 15 8a4.2 4.2 0 0 1-.8 8.5',
  wand: 'M3.5 16.5 12 8M11 3v2.5M14.5 4.5l-1.5 1.5M17 9h-2.5M15.5 12.5 14 11M8 4.5l1.5 1.5',
  warning: 'M10 3 18 16.5H2zM10 8v4M10 14.2v.2',
  zoomIn: 'M8.5 3.5a5 5 0 1 0 0 10 5 5 0 0 0 0-10zM12.2 12.2 16.5 16.5M8.5 6.5v4M6.5 8.5h4',
  zoomOut: 'M8.5 3.5a5 5 0 1 0 0 10 5 5 0 0 0 0-10zM12.2 12.2 16.5 16.5M6.5 8.5h4',
} as const;

const FILLED = new Set<IconName>(['play', 'stop', 'select', 'forward', 'backward', 'both', 'toEnd', 'toStart']);

export type IconName = keyof typeof PATHS;

/** A decorative icon; the control around it has the accessible name. */
export function Icon({ name }: { name: IconName }) {
  return (
    <svg
      class={FILLED.has(name) ? 'icon icon-filled' : 'icon'}
      viewBox="0 0 20 20"
      aria-hidden="true"
      focusable="false"
    >
      <path d={PATHS[name]} />
    </svg>
  );
}
