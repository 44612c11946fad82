// A mask that is being drawn: brush, eraser and lasso change it pixel by pixel. Masks are
// column-major, and pixel (x, y) has its centre at the coordinates (x, y).

/** Columns [start, stop) that a change touched. */
export type Columns = readonly [start: number, stop: number];

export class MaskEdit {
  /** Commands that are on their way. */
  numSent = 0;
  /** A stroke goes on; it has not been sent. */
  isDrawing = true;

  constructor(
    readonly frame: number,
    /** Null until the server has made the object. */
    public object: number | null,
    readonly height: number,
    readonly width: number,
    readonly mask: Uint8Array,
  ) {}

  /** Draws a line with a round pen. */
  stroke(
    [x0, y0]: readonly [number, number],
    [x1, y1]: readonly [number, number],
    radius: number,
    value: 0 | 1,
  ): Columns {
    const { height, width, mask } = this;
    const start = Math.max(0, Math.ceil(Math.min(x0, x1) - radius));
    const stop = Math.min(width, Math.floor(Math.max(x0, x1) + radius) + 1);
    const top = Math.max(0, Math.ceil(Math.min(y0, y1) - radius));
    const bottom = Math.min(height, Math.floor(Math.max(y0, y1) + radius) + 1);
    const [dx, dy] = [x1 - x0, y1 - y0];
    const squared = dx * dx + dy * dy;
    for (let x = start; x < stop; x += 1) {
      for (let y = top; y < bottom; y += 1) {
        const along = squared ? ((x - x0) * dx + (y - y0) * dy) / squared : 0;
        const t = Math.max(0, Math.min(1, along));
        const distance = (x - x0 - t * dx) ** 2 + (y - y0 - t * dy) ** 2;
        if (distance <= radius * radius) mask[x * height + y] = value;
      }
    }
    return [start, Math.max(start, stop)];
  }

  /** Fills a polygon (even-odd); pixels count whose centre is inside. */
  fill(polygon: readonly (readonly [number, number])[], value: 0 | 1): Columns {
    const { height, width, mask } = this;
    const xs = polygon.map(([x]) => x);
    const start = Math.max(0, Math.ceil(Math.min(...xs)));
    const stop = Math.min(width, Math.floor(Math.max(...xs)) + 1);
    for (let x = start; x < stop; x += 1) {
      const crossings: number[] = [];
      polygon.forEach(([x0, y0], i) => {
        const [x1, y1] = polygon[(i + 1) % polygon.length]!;
        if (x0 <= x !== x1 <= x) crossings.push(y0 + ((x - x0) * (y1 - y0)) / (x1 - x0));
      });
      crossings.sort((a, b) => a - b);
      for (let i = 0; i + 1 < crossings.length; i += 2) {
        const top = Math.max(0, Math.ceil(crossings[i]!));
        const bottom = Math.min(height, Math.floor(crossings[i + 1]!) + 1);
        if (top < bottom) mask.fill(value, x * height + top, x * height + bottom);
      }
    }
    return [start, Math.max(start, stop)];
  }
}
