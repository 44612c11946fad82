// The renderer for browsers without WebGL2 (and `?renderer=canvas`): the same picture,
// put together from layers. The frame is drawn smoothed, masks are not.
import { CHECKER, HOVERED, LUMA, SELECTED, SPOTLIGHT, effectFigures, parseColor } from './scene';
import type { Renderer, Scene } from './scene';

type Context = CanvasRenderingContext2D;

// Pixels of an ImageData as numbers: alpha, blue, green, red.
const BLACK = 0xff000000;
const LIGHT = 0x40ffffff;
const WHITE = 0xffffffff;
/** On larger pixels a line of one of them would hide too much. */
const MAX_HALO_SCALE = 2;

export class CanvasRenderer implements Renderer {
  readonly name = 'canvas';
  readonly maxSide = 8192;
  private readonly context: Context;
  /** Of the size of the frame, transposed as the label map: colours of the masks or where
   * the effect acts, and outlines. */
  private readonly tint = createLayer();
  private readonly lines = createLayer();
  /** Of the size of the canvas, to cut a changed frame out. */
  private readonly scratch = createLayer();
  private readonly small = createLayer();
  /** Pixels of `tint` and `lines`, used again for the next frame. */
  private pixels: [ImageData, ImageData] | null = null;
  private key = '';

  constructor(private readonly canvas: HTMLCanvasElement) {
    this.context = canvas.getContext('2d')!;
  }

  render(scene: Scene): void {
    const { canvas, context } = this;
    const ratio = scene.pixelRatio;
    resize(canvas, scene.canvasHeight * ratio, scene.canvasWidth * ratio);
    const { view, width, height, effect } = scene;
    const setFrameTransform = (target: Context) => {
      const scale = view.scale * ratio;
      target.setTransform(scale, 0, 0, scale, view.x * ratio, view.y * ratio);
    };
    const reset = () => {
      context.setTransform(1, 0, 0, 1, 0, 0);
      context.globalCompositeOperation = 'source-over';
      context.globalAlpha = 1;
      context.filter = 'none';
    };
    reset();
    context.clearRect(0, 0, canvas.width, canvas.height);
    setFrameTransform(context);
    context.imageSmoothingEnabled = true;
    context.drawImage(scene.bitmap, 0, 0, width, height);

    if (scene.labels) {
      this.updateLayers(scene);
      context.imageSmoothingEnabled = false;
      if (effect.name === 'overlay') {
        context.globalAlpha = effect.strength;
        drawTransposed(context, this.tint);
      } else if (effect.name !== 'outline') {
        this.drawChanged(scene, setFrameTransform);
        context.setTransform(1, 0, 0, 1, 0, 0);
        context.drawImage(this.scratch.canvas, 0, 0);
      }
    }
    reset();
    this.applyTone(scene, setFrameTransform);
    if (scene.labels) {
      setFrameTransform(context);
      context.imageSmoothingEnabled = false;
      drawTransposed(context, this.lines);
    }
    reset();
  }

  updateColumns(): void {
    this.key = '';
  }

  dispose(): void {
    this.key = '';
  }

  /** The changed frame where the effect acts, on the scratch layer. */
  private drawChanged(scene: Scene, setFrameTransform: (target: Context) => void): void {
    const { scratch, small } = this;
    const { effect, bitmap, width, height } = scene;
    const { sigma, block } = effectFigures(effect, height, width);
    resize(scratch.canvas, this.canvas.height, this.canvas.width);
    const context = scratch;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.globalCompositeOperation = 'source-over';
    context.clearRect(0, 0, scratch.canvas.width, scratch.canvas.height);
    setFrameTransform(context);
    context.imageSmoothingEnabled = false;
    drawTransposed(context, this.tint);
    context.globalCompositeOperation = 'source-in';
    if (effect.name === 'spotlight') {
      context.fillStyle = `rgb(0 0 0 / ${SPOTLIGHT * effect.strength})`;
      context.fillRect(0, 0, width, height);
    } else if (effect.name === 'replace') {
      context.fillStyle = `rgb(${parseColor(effect.color).join(' ')} / ${effect.strength})`;
      context.fillRect(0, 0, width, height);
    } else if (effect.name === 'cutout') {
      context.setTransform(1, 0, 0, 1, 0, 0);
      context.fillStyle = checker(context, CHECKER * scene.pixelRatio);
      context.fillRect(0, 0, scratch.canvas.width, scratch.canvas.height);
    } else if (effect.name === 'desaturate') {
      // The grey frame at the strength over the frame below it.
      resize(small.canvas, bitmap.height, bitmap.width);
      small.drawImage(bitmap, 0, 0);
      const pixels = small.getImageData(0, 0, bitmap.width, bitmap.height);
      const { data } = pixels;
      for (let i = 0; i < data.length; i += 4) {
        const luma = LUMA[0] * data[i]! + LUMA[1] * data[i + 1]! + LUMA[2] * data[i + 2]!;
        data[i] = data[i + 1] = data[i + 2] = luma;
      }
      small.putImageData(pixels, 0, 0);
      context.imageSmoothingEnabled = true;
      context.globalAlpha = effect.strength;
      context.drawImage(small.canvas, 0, 0, width, height);
      context.globalAlpha = 1;
    } else if (effect.name === 'pixelate') {
      const columns = Math.ceil(width / block);
      const rows = Math.ceil(height / block);
      resize(small.canvas, rows, columns);
      small.imageSmoothingEnabled = true;
      small.imageSmoothingQuality = 'high';
      const ratio = bitmap.width / width;
      small.drawImage(
        bitmap, 0, 0, columns * block * ratio, rows * block * ratio, 0, 0, columns, rows,
      );
      context.drawImage(small.canvas, 0, 0, columns * block, rows * block);
    } else if (effect.name === 'blur') {
      const shrink = Math.max(1, sigma / 4);
      resize(small.canvas, Math.ceil(height / shrink), Math.ceil(width / shrink));
      small.imageSmoothingEnabled = true;
      small.imageSmoothingQuality = 'high';
      small.filter = `blur(${sigma / shrink}px)`;
      small.drawImage(bitmap, 0, 0, small.canvas.width, small.canvas.height);
      small.filter = 'none';
      context.imageSmoothingEnabled = true;
      context.drawImage(small.canvas, 0, 0, width, height);
    }
  }

  /** Contrast about the middle grey, then brightness, on the pixels of the frame. */
  private applyTone(scene: Scene, setFrameTransform: (target: Context) => void): void {
    const { context, canvas, scratch } = this;
    const { brightness, contrast } = scene;
    if (contrast !== 1) {
      resize(scratch.canvas, canvas.height, canvas.width);
      scratch.setTransform(1, 0, 0, 1, 0, 0);
      scratch.globalCompositeOperation = 'copy';
      scratch.drawImage(canvas, 0, 0);
      context.clearRect(0, 0, canvas.width, canvas.height);
      context.filter = `contrast(${contrast})`;
      context.drawImage(scratch.canvas, 0, 0);
      context.filter = 'none';
    }
    if (brightness === 0) return;
    setFrameTransform(context);
    const fill = (operation: GlobalCompositeOperation, level: number) => {
      context.globalCompositeOperation = operation;
      const value = Math.round(255 * level);
      context.fillStyle = `rgb(${value} ${value} ${value})`;
      context.fillRect(0, 0, scene.width, scene.height);
    };
    // There is no operation that subtracts: the negative becomes brighter instead.
    if (brightness < 0) fill('difference', 1);
    fill('lighter', Math.abs(brightness));
    if (brightness < 0) fill('difference', 1);
  }

  /** Draws the masks into the layers, when they or their colours changed. */
  private updateLayers(scene: Scene): void {
    const { labels, height, width } = scene.labels!;
    const { effect, slots } = scene;
    const { outline } = effectFigures(effect, height, width);
    const selectedWidth = Math.max(1, Math.round(2 / scene.view.scale));
    const haloDisc = disc(scene.view.scale <= MAX_HALO_SCALE ? 1 : 0);
    const target = effect.name === 'overlay' ? 'colors' : effect.target;
    const key = JSON.stringify([
      scene.labelsVersion, height, width, outline, selectedWidth, haloDisc.length, target, slots,
    ]);
    if (key === this.key) return;
    this.key = key;
    if (this.pixels?.[0].width !== height || this.pixels[0].height !== width) {
      this.pixels = [new ImageData(height, width), new ImageData(height, width)];
    }
    const [tint, lines] = this.pixels;
    const tintPixels = new Uint32Array(tint.data.buffer);
    const linePixels = new Uint32Array(lines.data.buffer).fill(0);
    const colors = Uint32Array.from(slots, ({ color: [r, g, b] }) => pack(r, g, b));
    const fill = colors.map((color, slot) =>
      target === 'colors' ? (slot ? color : 0) : (slot > 0) === (target === 'objects') ? BLACK : 0,
    );
    for (let i = 0; i < labels.length; i += 1) tintPixels[i] = fill[labels[i]!]!;
    const hovered = slots.findIndex(({ flags }) => flags & HOVERED);
    if (hovered > 0) {
      for (let i = 0; i < labels.length; i += 1) if (labels[i] === hovered) linePixels[i] = LIGHT;
    }
    const discs = slots.map(({ flags }) =>
      disc(Math.max(outline, flags & SELECTED ? selectedWidth : 0)),
    );
    // Pixels of `label` around a pixel of another one are its outline.
    const stamp = (label: number, x: number, y: number) => {
      const offsets = discs[label]!;
      for (let k = 0; k < offsets.length; k += 2) {
        const column = x + offsets[k]!;
        const row = y + offsets[k + 1]!;
        if (column < 0 || row < 0 || column >= width || row >= height) continue;
        const pixel = column * height + row;
        if (labels[pixel] === label) linePixels[pixel] = colors[label]!;
      }
    };
    const halo: number[] = [];
    const compare = (i: number, x0: number, y0: number, x1: number, y1: number) => {
      const [first, second] = [labels[i]!, labels[x1 * height + y1]!];
      if (first) stamp(first, x1, y1);
      if (second) stamp(second, x0, y0);
      if (slots[first]!.flags & SELECTED) halo.push(x0, y0);
      if (slots[second]!.flags & SELECTED) halo.push(x1, y1);
    };
    for (let x = 0, i = 0; x < width; x += 1) {
      for (let y = 0; y < height; y += 1, i += 1) {
        const label = labels[i]!;
        if (y + 1 < height && labels[i + 1] !== label) compare(i, x, y, x, y + 1);
        if (x + 1 < width && labels[i + height] !== label) compare(i, x, y, x + 1, y);
      }
    }
    // A white line around what is selected, over the outlines of others.
    for (let k = 0; k < halo.length; k += 2) {
      for (let d = 0; d < haloDisc.length; d += 2) {
        const column = halo[k]! + haloDisc[d]!;
        const row = halo[k + 1]! + haloDisc[d + 1]!;
        if (column < 0 || row < 0 || column >= width || row >= height) continue;
        const pixel = column * height + row;
        if (!(slots[labels[pixel]!]!.flags & SELECTED)) linePixels[pixel] = WHITE;
      }
    }
    for (const [layer, data] of [[this.tint, tint], [this.lines, lines]] as const) {
      resize(layer.canvas, width, height);
      layer.putImageData(data, 0, 0);
    }
  }
}

/** Draws a layer whose x axis is the y axis of the frame. */
function drawTransposed(context: Context, layer: Context): void {
  context.save();
  context.transform(0, 1, 1, 0, 0, 0);
  context.drawImage(layer.canvas, 0, 0);
  context.restore();
}

const discs = new Map<number, Int16Array>();

/** Offsets (x, y, x, y, …) of the pixels at most `radius` away between centres. */
function disc(radius: number): Int16Array {
  let offsets = discs.get(radius);
  if (!offsets) {
    const all: number[] = [];
    for (let x = -radius; x <= radius && radius; x += 1) {
      for (let y = -radius; y <= radius; y += 1) {
        if (x * x + y * y <= radius * radius) all.push(x, y);
      }
    }
    offsets = Int16Array.from(all);
    discs.set(radius, offsets);
  }
  return offsets;
}

/** A pixel of an ImageData, which is little-endian RGBA on all machines in use. */
function pack(red: number, green: number, blue: number): number {
  return (BLACK | (blue << 16) | (green << 8) | red) >>> 0;
}

function createLayer(): Context {
  return document.createElement('canvas').getContext('2d', { willReadFrequently: true })!;
}

function resize(canvas: HTMLCanvasElement, height: number, width: number): void {
  if (canvas.width !== Math.round(width)) canvas.width = Math.round(width);
  if (canvas.height !== Math.round(height)) canvas.height = Math.round(height);
}

function checker(context: Context, side: number): CanvasPattern {
  const tile = createLayer();
  resize(tile.canvas, 2 * side, 2 * side);
  tile.fillStyle = 'rgb(184 184 184)';
  tile.fillRect(0, 0, 2 * side, 2 * side);
  tile.fillStyle = 'rgb(219 219 219)';
  tile.fillRect(side, 0, side, side);
  tile.fillRect(0, side, side, side);
  return context.createPattern(tile.canvas, 'repeat')!;
}
