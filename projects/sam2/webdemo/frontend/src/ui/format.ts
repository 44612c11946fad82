// Numbers as people read them.

export function formatBytes(bytes: number): string {
  const units = ['B', 'KB', 'MB', 'GB', 'TB'];
  let value = bytes;
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

export function formatCount(count: number, noun: string): string {
  return `${count.toLocaleString('en')} ${noun}${count === 1 ? '' : 's'}`;
}

/** Time of a frame as minutes, seconds and hundredths, or hours where there are any. */
export function formatTime(seconds: number): string {
  const hundredths = Math.round(seconds * 100);
  const pad = (value: number) => String(value).padStart(2, '0');
  const hours = Math.floor(hundredths / 360000);
  const minutes = Math.floor(hundredths / 6000) % 60;
  const rest = `${pad(Math.floor(hundredths / 100) % 60)}.${pad(hundredths % 100)}`;
  return hours ? `${hours}:${pad(minutes)}:${rest}` : `${minutes}:${rest}`;
}

/** How long ago a moment was; `now` and `then` in seconds since 1970. */
export function formatAgo(then: number, now: number): string {
  const seconds = Math.max(0, now - then);
  const steps: [number, string][] = [
    [60, 'minute'],
    [3600, 'hour'],
    [86400, 'day'],
  ];
  if (seconds < 60) return 'just now';
  const [size, noun] = steps.findLast(([length]) => seconds >= length)!;
  const count = Math.floor(seconds / size);
  return count > 30 && noun === 'day'
    ? new Date(then * 1000).toISOString().slice(0, 10)
    : `${formatCount(count, noun)} ago`;
}
