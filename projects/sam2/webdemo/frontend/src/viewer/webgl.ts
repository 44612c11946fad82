// The WebGL2 renderer: the frame is one texture, all masks are one label texture
// (transposed, as the codes are column-major), colours and flags are a palette texture.
import { EFFECT_NAMES } from '../protocol';
import { effectFigures, parseColor } from './scene';
import type { Renderer, Scene } from './scene';
import { BLUR, MAIN, PIXELATE, VERTEX } from './shaders';

const MAX_SIGMA = 4;
const PALETTE_WIDTH = 256;

/**
 * The WebGL2 renderer, or null where the browser has none.
 *
 * @param anyway also where WebGL2 is emulated on the CPU, where a 2D canvas is faster.
 */
export function createWebglRenderer(canvas: HTMLCanvasElement, anyway: boolean): Renderer | null {
  if (!anyway && isEmulated()) return null;
  const gl = canvas.getContext('webgl2', { alpha: true, antialias: false, depth: false });
  if (!gl) return null;
  try {
    return new WebglRenderer(canvas, gl);
  } catch (error) {
    console.warn('WebGL2 cannot be used; drawing on a 2D canvas instead:', error);
    return null;
  }
}

function isEmulated(): boolean {
  // A canvas that had a WebGL context gives no other one: ask a canvas that is thrown away.
  const gl = document
    .createElement('canvas')
    .getContext('webgl2', { failIfMajorPerformanceCaveat: true });
  if (!gl) return true;
  const names = gl.getExtension('WEBGL_debug_renderer_info');
  const renderer = String(gl.getParameter(names?.UNMASKED_RENDERER_WEBGL ?? gl.RENDERER));
  gl.getExtension('WEBGL_lose_context')?.loseContext();
  return /swiftshader|llvmpipe|software|basic render/i.test(renderer);
}

class WebglRenderer implements Renderer {
  readonly name = 'webgl2';
  readonly maxSide: number;
  private readonly main: Program;
  private readonly blur: Program;
  private readonly pixelate: Program;
  private readonly frame: WebGLTexture;
  private readonly labels: WebGLTexture;
  private readonly palette: WebGLTexture;
  private readonly targets: [Target, Target];
  /** What the textures hold. */
  private frameOf: ImageBitmap | null = null;
  private labelsOf = -1;
  /** Labels are subsampled by this where a frame is larger than a texture may be. */
  private labelStep = 1;
  private mipmaps = false;
  /** The effect of the frame in the first target. */
  private changedOf = '';

  constructor(
    private readonly canvas: HTMLCanvasElement,
    private readonly gl: WebGL2RenderingContext,
  ) {
    this.maxSide = gl.getParameter(gl.MAX_TEXTURE_SIZE) as number;
    this.main = new Program(gl, MAIN);
    this.blur = new Program(gl, BLUR);
    this.pixelate = new Program(gl, PIXELATE);
    this.frame = createTexture(gl, gl.LINEAR);
    this.labels = createTexture(gl, gl.NEAREST);
    this.palette = createTexture(gl, gl.NEAREST);
    this.targets = [new Target(gl), new Target(gl)];
    gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1);
    gl.pixelStorei(gl.UNPACK_COLORSPACE_CONVERSION_WEBGL, gl.NONE);
    gl.bindVertexArray(gl.createVertexArray());
  }

  render(scene: Scene): void {
    const { gl, canvas } = this;
    const width = Math.round(scene.canvasWidth * scene.pixelRatio);
    const height = Math.round(scene.canvasHeight * scene.pixelRatio);
    if (canvas.width !== width || canvas.height !== height) {
      canvas.width = width;
      canvas.height = height;
    }
    const newFrame = this.uploadFrame(scene);
    if (scene.labels && this.labelsOf !== scene.labelsVersion) this.uploadLabels(scene);
    this.uploadPalette(scene);
    const changed = this.drawChanged(scene, newFrame);

    gl.bindFramebuffer(gl.FRAMEBUFFER, null);
    gl.viewport(0, 0, width, height);
    const { main } = this;
    main.use();
    main.texture('frame', 0, this.frame);
    main.texture('changed', 1, changed ?? this.frame);
    main.texture('labels', 2, this.labels);
    main.texture('palette', 3, this.palette);
    const { effect, view } = scene;
    const figures = effectFigures(effect, scene.height, scene.width);
    gl.uniform2f(main.at('size'), scene.width, scene.height);
    gl.uniform2f(main.at('canvas'), width, height);
    const ratio = scene.pixelRatio;
    gl.uniform3f(main.at('view'), view.x * ratio, view.y * ratio, view.scale * ratio);
    gl.uniform1f(main.at('ratio'), ratio);
    gl.uniform1i(main.at('step_'), this.labelStep);
    gl.uniform1i(main.at('hasLabels'), scene.labels ? 1 : 0);
    gl.uniform1i(main.at('effect'), scene.labels ? EFFECT_NAMES.indexOf(effect.name) : -1);
    gl.uniform1f(main.at('strength'), effect.strength);
    gl.uniform1i(main.at('onObjects'), effect.target === 'objects' ? 1 : 0);
    const [red, green, blue] = parseColor(effect.color);
    gl.uniform3f(main.at('color'), red / 255, green / 255, blue / 255);
    gl.uniform1f(main.at('block'), figures.block);
    gl.uniform1f(main.at('outline'), figures.outline);
    gl.uniform2f(main.at('tone'), scene.brightness, scene.contrast);
    gl.drawArrays(gl.TRIANGLES, 0, 3);
  }

  updateColumns(scene: Scene, start: number, stop: number): void {
    const { gl } = this;
    const labels = scene.labels;
    if (!labels || this.labelStep !== 1 || this.labelsOf < 0) {
      this.labelsOf = -1;
      return;
    }
    gl.bindTexture(gl.TEXTURE_2D, this.labels);
    const [, format, type] = labelFormat(gl, labels.labels);
    const { height } = labels;
    const columns = labels.labels.subarray(start * height, stop * height);
    gl.texSubImage2D(gl.TEXTURE_2D, 0, 0, start, height, stop - start, format, type, columns);
    this.labelsOf = scene.labelsVersion;
  }

  dispose(): void {
    this.gl.getExtension('WEBGL_lose_context')?.loseContext();
  }

  private uploadFrame(scene: Scene): boolean {
    const { gl } = this;
    if (this.frameOf === scene.bitmap) return false;
    this.frameOf = scene.bitmap;
    gl.bindTexture(gl.TEXTURE_2D, this.frame);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA8, gl.RGBA, gl.UNSIGNED_BYTE, scene.bitmap);
    // Smaller copies cost time: only for a picture that is shown much smaller, or blurred.
    const scale = (scene.view.scale * scene.pixelRatio * scene.width) / scene.bitmap.width;
    const { name } = scene.effect;
    this.mipmaps = scale < 0.7 || name === 'blur' || name === 'pixelate';
    if (this.mipmaps) gl.generateMipmap(gl.TEXTURE_2D);
    const filter = this.mipmaps ? gl.LINEAR_MIPMAP_LINEAR : gl.LINEAR;
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, filter);
    return true;
  }

  private needMipmaps(): void {
    const { gl } = this;
    if (this.mipmaps) return;
    gl.bindTexture(gl.TEXTURE_2D, this.frame);
    gl.generateMipmap(gl.TEXTURE_2D);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.LINEAR_MIPMAP_LINEAR);
    this.mipmaps = true;
  }

  private uploadLabels(scene: Scene): void {
    const { gl } = this;
    const map = scene.labels!;
    this.labelsOf = scene.labelsVersion;
    let { labels, height, width } = map;
    const step = Math.ceil(Math.max(height, width) / this.maxSide);
    this.labelStep = step;
    if (step > 1) {
      const rows = Math.ceil(height / step);
      const columns = Math.ceil(width / step);
      const small = new (labels.constructor as Uint8ArrayConstructor)(rows * columns);
      for (let column = 0; column < columns; column += 1) {
        for (let row = 0; row < rows; row += 1) {
          small[column * rows + row] = labels[column * step * height + row * step]!;
        }
      }
      [labels, height, width] = [small, rows, columns];
    }
    gl.bindTexture(gl.TEXTURE_2D, this.labels);
    const [internal, format, type] = labelFormat(gl, labels);
    gl.texImage2D(gl.TEXTURE_2D, 0, internal, height, width, 0, format, type, labels);
  }

  private uploadPalette(scene: Scene): void {
    const { gl } = this;
    const rows = Math.ceil(scene.slots.length / PALETTE_WIDTH) || 1;
    const data = new Uint8Array(4 * PALETTE_WIDTH * rows);
    scene.slots.forEach(({ color, flags }, i) => data.set([...color, flags], 4 * i));
    gl.bindTexture(gl.TEXTURE_2D, this.palette);
    gl.texImage2D(
      gl.TEXTURE_2D,
      0,
      gl.RGBA8,
      PALETTE_WIDTH,
      rows,
      0,
      gl.RGBA,
      gl.UNSIGNED_BYTE,
      data,
    );
  }

  /** The blurred or pixelated frame, drawn again when the frame or a figure changes. */
  private drawChanged(scene: Scene, newFrame: boolean): WebGLTexture | null {
    const { gl } = this;
    const { effect, height, width } = scene;
    if (effect.name !== 'blur' && effect.name !== 'pixelate') {
      this.changedOf = '';
      return null;
    }
    const key = `${effect.name} ${effect.strength}`;
    const [first, second] = this.targets;
    if (key === this.changedOf && !newFrame) return first.texture;
    this.changedOf = key;
    this.needMipmaps();
    const { sigma, block } = effectFigures(effect, height, width);
    if (effect.name === 'pixelate') {
      first.resize(Math.ceil(width / block), Math.ceil(height / block), gl.NEAREST);
      first.bind();
      this.pixelate.use();
      this.pixelate.texture('source', 0, this.frame);
      gl.uniform2f(this.pixelate.at('size'), width, height);
      gl.uniform1f(this.pixelate.at('block'), block);
      gl.drawArrays(gl.TRIANGLES, 0, 3);
      return first.texture;
    }
    const shrink = Math.max(1, sigma / MAX_SIGMA);
    for (const target of this.targets) {
      target.resize(Math.ceil(width / shrink), Math.ceil(height / shrink), gl.LINEAR);
    }
    this.blur.use();
    gl.uniform2f(this.blur.at('target'), first.width, first.height);
    gl.uniform1f(this.blur.at('sigma'), sigma / shrink);
    second.bind();
    this.blur.texture('source', 0, this.frame);
    gl.uniform1f(this.blur.at('lod'), Math.log2((shrink * scene.bitmap.width) / width));
    gl.uniform2f(this.blur.at('direction'), 1, 0);
    gl.drawArrays(gl.TRIANGLES, 0, 3);
    first.bind();
    this.blur.texture('source', 0, second.texture);
    gl.uniform1f(this.blur.at('lod'), 0);
    gl.uniform2f(this.blur.at('direction'), 0, 1);
    gl.drawArrays(gl.TRIANGLES, 0, 3);
    return first.texture;
  }
}

class Program {
  private readonly program: WebGLProgram;
  private readonly locations = new Map<string, WebGLUniformLocation | null>();

  constructor(
    private readonly gl: WebGL2RenderingContext,
    fragment: string,
  ) {
    this.program = gl.createProgram();
    for (const [type, source] of [
      [gl.VERTEX_SHADER, VERTEX],
      [gl.FRAGMENT_SHADER, fragment],
    ] as const) {
      const shader = gl.createShader(type)!;
      gl.shaderSource(shader, source);
      gl.compileShader(shader);
      gl.attachShader(this.program, shader);
    }
    gl.linkProgram(this.program);
    if (!gl.getProgramParameter(this.program, gl.LINK_STATUS)) {
      const shaders = gl.getAttachedShaders(this.program) ?? [];
      throw new Error(shaders.map((shader) => gl.getShaderInfoLog(shader)).join('\n'));
    }
  }

  use(): void {
    this.gl.useProgram(this.program);
  }

  at(name: string): WebGLUniformLocation | null {
    if (!this.locations.has(name)) {
      this.locations.set(name, this.gl.getUniformLocation(this.program, name));
    }
    return this.locations.get(name) ?? null;
  }

  texture(name: string, unit: number, texture: WebGLTexture): void {
    this.gl.activeTexture(this.gl.TEXTURE0 + unit);
    this.gl.bindTexture(this.gl.TEXTURE_2D, texture);
    this.gl.uniform1i(this.at(name), unit);
  }
}

/** A texture that is drawn into. */
class Target {
  readonly texture: WebGLTexture;
  private readonly buffer: WebGLFramebuffer;
  width = 0;
  height = 0;

  constructor(private readonly gl: WebGL2RenderingContext) {
    this.texture = createTexture(gl, gl.LINEAR);
    this.buffer = gl.createFramebuffer();
  }

  resize(width: number, height: number, filter: number): void {
    const { gl } = this;
    gl.bindTexture(gl.TEXTURE_2D, this.texture);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, filter);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MAG_FILTER, filter);
    if (this.width === width && this.height === height) return;
    gl.texImage2D(
      gl.TEXTURE_2D,
      0,
      gl.RGBA8,
      width,
      height,
      0,
      gl.RGBA,
      gl.UNSIGNED_BYTE,
      null,
    );
    this.width = width;
    this.height = height;
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.buffer);
    gl.framebufferTexture2D(
      gl.FRAMEBUFFER,
      gl.COLOR_ATTACHMENT0,
      gl.TEXTURE_2D,
      this.texture,
      0,
    );
  }

  bind(): void {
    this.gl.bindFramebuffer(this.gl.FRAMEBUFFER, this.buffer);
    this.gl.viewport(0, 0, this.width, this.height);
  }
}

function createTexture(gl: WebGL2RenderingContext, filter: number): WebGLTexture {
  const texture = gl.createTexture();
  gl.bindTexture(gl.TEXTURE_2D, texture);
  gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, filter);
  gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MAG_FILTER, filter);
  gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_WRAP_S, gl.CLAMP_TO_EDGE);
  gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_WRAP_T, gl.CLAMP_TO_EDGE);
  return texture;
}

function labelFormat(
  gl: WebGL2RenderingContext,
  labels: Uint8Array | Uint16Array,
): readonly [internal: number, format: number, type: number] {
  return labels instanceof Uint8Array
    ? [gl.R8UI, gl.RED_INTEGER, gl.UNSIGNED_BYTE]
    : [gl.R16UI, gl.RED_INTEGER, gl.UNSIGNED_SHORT];
}
