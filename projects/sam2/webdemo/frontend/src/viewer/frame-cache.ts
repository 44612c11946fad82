// Pictures of frames as ImageBitmaps, least recently used out first.
import { errorOf } from '../api';

const MAX_BYTES = 128 * 2 ** 20;
const MAX_IN_FLIGHT = 4;
const BYTES_PER_PIXEL = 4;

export class FrameCache {
  private readonly bitmaps = new Map<number, ImageBitmap>();
  private readonly errors = new Map<number, string>();
  private readonly inFlight = new Set<number>();
  private wanted: readonly number[] = [];
  private bytes = 0;
  /** The frame on screen: it is kept. */
  shown = -1;
  private readonly abort = new AbortController();

  /**
   * @param address of the picture of a frame.
   * @param maxSide longer pictures are scaled down (the largest texture).
   * @param onFrame called when a picture has arrived, or its error is known.
   * @param onLoad called when a picture is asked for.
   */
  constructor(
    private readonly address: (frame: number) => string,
    private readonly maxSide: number,
    private readonly onFrame: (frame: number) => void,
    private readonly onLoad: (frame: number) => void = () => undefined,
    private readonly maxBytes = MAX_BYTES,
  ) {}

  get(frame: number): ImageBitmap | null {
    const bitmap = this.bitmaps.get(frame);
    if (!bitmap) return null;
    this.bitmaps.delete(frame);
    this.bitmaps.set(frame, bitmap);
    return bitmap;
  }

  has(frame: number): boolean {
    return this.bitmaps.has(frame);
  }

  /** Why a frame cannot be shown, or null. */
  error(frame: number): string | null {
    return this.errors.get(frame) ?? null;
  }

  /** How many pictures of a size fit. */
  capacity(height: number, width: number): number {
    return Math.max(1, Math.floor(this.maxBytes / (BYTES_PER_PIXEL * height * width || 1)));
  }

  /** Loads frames, the most urgent first; replaces what was wanted before. */
  want(frames: readonly number[]): void {
    this.wanted = frames;
    this.pump();
  }

  close(): void {
    this.wanted = [];
    this.abort.abort();
    for (const bitmap of this.bitmaps.values()) bitmap.close();
    this.bitmaps.clear();
  }

  get sizeInBytes(): number {
    return this.bytes;
  }

  private pump(): void {
    // What is in flight is not aborted when the play head moves on: a quick scrub would
    // then never show anything.
    for (const frame of this.wanted) {
      if (this.inFlight.size >= MAX_IN_FLIGHT) return;
      if (this.has(frame) || this.inFlight.has(frame) || this.errors.has(frame)) continue;
      void this.load(frame);
    }
  }

  private async load(frame: number): Promise<void> {
    this.inFlight.add(frame);
    this.onLoad(frame);
    try {
      const response = await fetch(this.address(frame), { signal: this.abort.signal });
      if (!response.ok) {
        const error = await errorOf(response);
        // A busy server is asked again; a broken frame stays broken.
        if (response.status === 422 || response.status === 404) {
          this.errors.set(frame, error.message);
        } else {
          await new Promise((resolve) => setTimeout(resolve, 500));
        }
      } else {
        const bitmap = await this.decode(await response.blob());
        if (this.abort.signal.aborted) bitmap.close();
        else this.put(frame, bitmap);
      }
    } catch {
      // The network is cut, or the session is closed.
      if (!this.abort.signal.aborted) await new Promise((resolve) => setTimeout(resolve, 500));
    }
    this.inFlight.delete(frame);
    if (this.abort.signal.aborted) return;
    if (this.has(frame) || this.errors.has(frame)) this.onFrame(frame);
    this.pump();
  }

  private async decode(blob: Blob): Promise<ImageBitmap> {
    const bitmap = await createImageBitmap(blob, { premultiplyAlpha: 'none' });
    const side = Math.max(bitmap.width, bitmap.height);
    if (side <= this.maxSide) return bitmap;
    const ratio = this.maxSide / side;
    const small = await createImageBitmap(bitmap, {
      resizeWidth: Math.round(bitmap.width * ratio),
      resizeHeight: Math.round(bitmap.height * ratio),
      resizeQuality: 'medium',
    });
    bitmap.close();
    return small;
  }

  private put(frame: number, bitmap: ImageBitmap): void {
    this.bitmaps.set(frame, bitmap);
    this.bytes += cost(bitmap);
    const urgent = this.wanted[0];
    for (const [other, old] of this.bitmaps) {
      if (this.bytes <= this.maxBytes) break;
      if (other === frame || other === urgent || other === this.shown) continue;
      this.bitmaps.delete(other);
      this.bytes -= cost(old);
      old.close();
    }
  }
}

function cost(bitmap: ImageBitmap): number {
  return BYTES_PER_PIXEL * bitmap.width * bitmap.height;
}
