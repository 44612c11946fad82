import { describe, expect, it } from 'vitest';

import documentSource from '../../session/document.py?raw';
import css from '../src/styles/theme.css?raw';
import { OBJECT_COLORS } from '../src/ui/palette';

type Triple = [number, number, number];

function linear(color: string): Triple {
  return [1, 3, 5].map((at) => {
    const value = parseInt(color.slice(at, at + 2), 16) / 255;
    return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  }) as Triple;
}

function luminance(color: string): number {
  const [r, g, b] = linear(color);
  return 0.2126729 * r + 0.7151522 * g + 0.072175 * b;
}

/** Contrast ratio of WCAG 2. */
function contrast(a: string, b: string): number {
  const [low, high] = [luminance(a), luminance(b)].sort((x, y) => x - y) as [number, number];
  return (high + 0.05) / (low + 0.05);
}

function lab(color: string): Triple {
  const [r, g, b] = linear(color);
  const xyz = [
    (0.4124564 * r + 0.3575761 * g + 0.1804375 * b) / 0.95047,
    0.2126729 * r + 0.7151522 * g + 0.072175 * b,
    (0.0193339 * r + 0.119192 * g + 0.9503041 * b) / 1.08883,
  ].map((t) => (t > 216 / 24389 ? Math.cbrt(t) : ((24389 / 27) * t + 16) / 116)) as Triple;
  return [116 * xyz[1] - 16, 500 * (xyz[0] - xyz[1]), 200 * (xyz[1] - xyz[2])];
}

const radians = (degrees: number) => (degrees * Math.PI) / 180;

/** CIEDE2000 (Sharma, Wu and Dalal, 2005). */
function deltaE([l1, a1, b1]: Triple, [l2, a2, b2]: Triple): number {
  const mean7 = ((Math.hypot(a1, b1) + Math.hypot(a2, b2)) / 2) ** 7;
  const g = 0.5 * (1 - Math.sqrt(mean7 / (mean7 + 25 ** 7)));
  const [p1, p2] = [(1 + g) * a1, (1 + g) * a2];
  const [c1, c2] = [Math.hypot(p1, b1), Math.hypot(p2, b2)];
  const hue = (a: number, b: number) => ((Math.atan2(b, a) * 180) / Math.PI + 360) % 360;
  const [h1, h2] = [hue(p1, b1), hue(p2, b2)];
  let dh = h2 - h1;
  if (dh > 180) dh -= 360;
  if (dh < -180) dh += 360;
  const dH = 2 * Math.sqrt(c1 * c2) * Math.sin(radians(dh / 2));
  const [l, c] = [(l1 + l2) / 2, (c1 + c2) / 2];
  let h = (h1 + h2) / 2;
  if (Math.abs(h1 - h2) > 180) h += h < 180 ? 180 : -180;
  const t =
    1 -
    0.17 * Math.cos(radians(h - 30)) +
    0.24 * Math.cos(radians(2 * h)) +
    0.32 * Math.cos(radians(3 * h + 6)) -
    0.2 * Math.cos(radians(4 * h - 63));
  const sl = 1 + (0.015 * (l - 50) ** 2) / Math.sqrt(20 + (l - 50) ** 2);
  const sc = 1 + 0.045 * c;
  const sh = 1 + 0.015 * c * t;
  const rotation = 30 * Math.exp(-(((h - 275) / 25) ** 2));
  const rt = -Math.sin(radians(2 * rotation)) * 2 * Math.sqrt(c ** 7 / (c ** 7 + 25 ** 7));
  const [x, y, z] = [(l2 - l1) / sl, (c2 - c1) / sc, dH / sh];
  return Math.sqrt(x * x + y * y + z * z + rt * y * z);
}

function closest(colors: readonly string[]): number {
  const labs = colors.map(lab);
  return Math.min(...labs.flatMap((a, i) => labs.slice(i + 1).map((b) => deltaE(a, b))));
}

/** The colours of a custom property in both themes, from the style sheet itself. */
function themeColors(property: string): [light: string, dark: string] {
  const color = '(#[0-9a-f]{6})';
  const match = new RegExp(`${property}: light-dark\\(${color}, ${color}\\)`).exec(css)!;
  return [match[1]!, match[2]!];
}

describe('the colours of objects', () => {
  it('agree with published CIEDE2000 values', () => {
    expect(deltaE([50, 2.6772, -79.7751], [50, 0, -82.7485])).toBeCloseTo(2.0425, 4);
    expect(deltaE([60.2574, -34.0099, 36.2677], [60.4626, -34.1751, 39.4387])).toBeCloseTo(1.2644, 4);
    expect(deltaE([22.7233, 20.0904, -46.694], [23.0331, 14.973, -42.5619])).toBeCloseTo(2.0373, 4);
  });

  it('are those that the server gives to new objects', () => {
    const list = /OBJECT_COLORS = \((.*?)\n\)/s.exec(documentSource)![1]!;
    expect(list.match(/#[0-9a-f]{6}/g)).toEqual(OBJECT_COLORS);
  });

  it('are 50 that contrast at least 3:1 with the panels of both themes', () => {
    expect(new Set(OBJECT_COLORS).size).toBe(50);
    for (const surface of themeColors('--surface')) {
      for (const color of OBJECT_COLORS) {
        expect(contrast(color, surface), `${color} on ${surface}`).toBeGreaterThanOrEqual(3);
      }
    }
  });

  it('are at least 11 CIEDE2000 apart, and the first ten at least 20', () => {
    expect(closest(OBJECT_COLORS)).toBeGreaterThanOrEqual(11);
    expect(closest(OBJECT_COLORS.slice(0, 10))).toBeGreaterThanOrEqual(20);
  });
});

describe('the text of both themes', () => {
  const surfaces = ['--surface', '--surface-2', '--surface-3'];
  it.each([
    ['--text', 7],
    ['--text-2', 4.5],
    ['--accent', 4.5],
    ['--danger', 4.5],
    ['--warning', 4.5],
    ['--success', 4.5],
  ])('%s contrasts at least %s:1 with the surfaces', (property, least) => {
    themeColors(property as string).forEach((color, theme) => {
      for (const name of surfaces) {
        const surface = themeColors(name)[theme]!;
        expect(contrast(color, surface), `${color} on ${surface}`).toBeGreaterThanOrEqual(least as number);
      }
    });
  });

  it('contrasts on soft backgrounds and on the accent', () => {
    for (const name of ['accent', 'danger', 'warning', 'success']) {
      const [light, dark] = themeColors(`--${name}`);
      const [softLight, softDark] = themeColors(`--${name}-soft`);
      expect(contrast(light, softLight)).toBeGreaterThanOrEqual(4.5);
      expect(contrast(dark, softDark)).toBeGreaterThanOrEqual(4.5);
    }
    themeColors('--on-accent').forEach((color, theme) => {
      expect(contrast(color, themeColors('--accent')[theme]!)).toBeGreaterThanOrEqual(4.5);
    });
  });

  it('has borders of controls of at least 3:1 where they carry meaning', () => {
    themeColors('--border-strong').forEach((color, theme) => {
      expect(contrast(color, themeColors('--surface')[theme]!)).toBeGreaterThanOrEqual(3);
    });
  });
});
