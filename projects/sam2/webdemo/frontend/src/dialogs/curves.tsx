// A curve of training as SVG: steps to the right, values upwards.

export type Curve = readonly (readonly [step: number, value: number])[];

interface Plot {
  readonly line: string;
  readonly dots: readonly (readonly [x: number, y: number])[];
  readonly low: number;
  readonly high: number;
}

const WIDTH = 340;
const HEIGHT = 120;
const MARGIN = 8;

/** Positions of a curve in the picture; values that are not finite are left out. */
export function plotCurve(curve: Curve): Plot | null {
  const points = curve.filter(([, value]) => Number.isFinite(value));
  if (!points.length) return null;
  const steps = points.map(([step]) => step);
  const values = points.map(([, value]) => value);
  const [first, last] = [Math.min(...steps), Math.max(...steps)];
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const scale = (value: number, from: number, to: number, length: number) =>
    MARGIN + (to > from ? (value - from) / (to - from) : 0.5) * (length - 2 * MARGIN);
  const dots = points.map(
    ([step, value]) =>
      [scale(step, first, last, WIDTH), HEIGHT - scale(value, low, high, HEIGHT)] as const,
  );
  const line = dots.map(([x, y], i) => `${i ? 'L' : 'M'}${x.toFixed(1)} ${y.toFixed(1)}`).join('');
  return { line, dots, low, high };
}

export function CurvePlot({ title, curve }: { title: string; curve: Curve }) {
  const plot = plotCurve(curve);
  const last = curve.at(-1);
  const summary = plot
    ? `${title}: ${curve.length} values from ${plot.low.toFixed(3)} to ${plot.high.toFixed(3)}`
    : `${title}: no values yet`;
  return (
    <figure class="curve">
      <figcaption class="row-line">
        <strong class="grow">{title}</strong>
        {last && (
          <span class="muted number">
            {last[1].toPrecision(4)} at {last[0]}
          </span>
        )}
      </figcaption>
      <svg viewBox={`0 0 ${WIDTH} ${HEIGHT}`} role="img" aria-label={summary}>
        {[0.25, 0.5, 0.75].map((part) => (
          <path key={part} class="curve-grid" d={`M0 ${part * HEIGHT}H${WIDTH}`} />
        ))}
        {plot && <path class="curve-line" d={plot.line} />}
        {plot && plot.dots.length <= 40 && plot.dots.map(([x, y]) => (
          <circle key={x} class="curve-dot" cx={x} cy={y} r="2.5" />
        ))}
      </svg>
      <p class="row-line muted number">
        <span class="grow">{plot ? `lowest ${plot.low.toPrecision(4)}` : 'No values yet.'}</span>
        {plot && <span>highest {plot.high.toPrecision(4)}</span>}
      </p>
    </figure>
  );
}
