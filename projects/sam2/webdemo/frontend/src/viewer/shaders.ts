// The programs of the WebGL2 renderer, whose uniforms `webgl.ts` sets.
import { EFFECT_NAMES } from '../protocol';
import { CHECKER, HOVERED, LUMA, SELECTED, SPOTLIGHT } from './scene';

export const VERTEX = `#version 300 es
void main() {
  // One triangle that covers the canvas.
  gl_Position = vec4(vec2(gl_VertexID == 1 ? 3 : -1, gl_VertexID == 2 ? 3 : -1), 0, 1);
}`;

/** The frame with masks, effect and outlines. */
export const MAIN = `#version 300 es
precision highp float;
precision highp usampler2D;
${EFFECT_NAMES.map((name, i) => `const int ${name.toUpperCase()} = ${i};`).join('\n')}
uniform sampler2D frame;
uniform sampler2D changed;    // the blurred or pixelated frame
uniform usampler2D labels;    // transposed: x is the row
uniform sampler2D palette;
uniform vec2 size;            // width, height of the frame
uniform vec2 canvas;          // in device pixels
uniform vec3 view;            // corner x, y, scale, in device pixels
uniform float ratio;          // device pixels per CSS pixel
uniform int step_;            // labels are subsampled by this
uniform bool hasLabels;
uniform int effect;
uniform float strength;
uniform bool onObjects;
uniform vec3 color;
uniform float block;          // side of a pixelated block
uniform float outline;        // width in pixels of the frame
uniform vec2 tone;            // brightness, contrast
out vec4 result;

uint labelAt(vec2 p) {
  if (!hasLabels || any(lessThan(p, vec2(0))) || any(greaterThanEqual(p, size))) return 0u;
  ivec2 pixel = ivec2(p) / step_;
  return texelFetch(labels, pixel.yx, 0).r;
}
vec4 slot(uint label) {
  return texelFetch(palette, ivec2(label & 255u, label >> 8u), 0);
}
int flags(vec4 entry) { return int(entry.a * 255.0 + 0.5); }

const vec2 RING[16] = vec2[16](
  vec2(1, 0), vec2(.924, .383), vec2(.707, .707), vec2(.383, .924),
  vec2(0, 1), vec2(-.383, .924), vec2(-.707, .707), vec2(-.924, .383),
  vec2(-1, 0), vec2(-.924, -.383), vec2(-.707, -.707), vec2(-.383, -.924),
  vec2(0, -1), vec2(.383, -.924), vec2(.707, -.707), vec2(.924, -.383));

// Whether a pixel with another label is at most this radius away, between centres (of
// a wide line some pixels in between are tried). The border of the frame is no edge.
bool isOutline(vec2 p, uint label, float radius) {
  vec2 centre = floor(p) + 0.5, low = vec2(0.5), high = size - 0.5;
  for (int i = 0; i < 16; i++) {
    for (float part = 1.0; part > 0.2; part -= radius > 2.0 ? 0.25 : 1.0) {
      vec2 offset = trunc(RING[i] * radius * part);
      if (labelAt(clamp(centre + offset, low, high)) != label) return true;
    }
  }
  return false;
}

// Whether another label lies within a distance; it may be less than a pixel of the frame.
bool isEdge(vec2 p, uint label, float radius) {
  vec2 low = vec2(0.5), high = size - 0.5;
  for (int i = 0; i < 16; i++) {
    if (labelAt(clamp(p + RING[i] * radius, low, high)) != label) return true;
  }
  return false;
}

void main() {
  vec2 device = vec2(gl_FragCoord.x, canvas.y - gl_FragCoord.y);
  vec2 p = (device - view.xy) / view.z;
  if (any(lessThan(p, vec2(0))) || any(greaterThanEqual(p, size))) {
    result = vec4(0);
    return;
  }
  vec2 uv = p / size;
  vec3 rgb = texture(frame, uv).rgb;
  uint label = labelAt(p);
  vec4 entry = slot(label);
  bool inside = label != 0u;
  bool target = onObjects == inside;

  if (effect == OVERLAY && inside) rgb = mix(rgb, entry.rgb, strength);
  else if (effect == CUTOUT && target) {
    vec2 squares = floor(device / (ratio * ${CHECKER.toFixed(1)}));
    rgb = vec3(mod(squares.x + squares.y, 2.0) < 1.0 ? 0.72 : 0.86);
  }
  else if (effect == BLUR && target) rgb = texture(changed, uv).rgb;
  // Blocks at the right and lower border are cut, so their texels are not where uv says.
  else if (effect == PIXELATE && target) rgb = texelFetch(changed, ivec2(p / block), 0).rgb;
  else if (effect == SPOTLIGHT && target) rgb *= 1.0 - ${SPOTLIGHT} * strength;
  else if (effect == DESATURATE && target) rgb = mix(rgb, vec3(dot(rgb, vec3(${LUMA.join(', ')}))), strength);
  else if (effect == REPLACE && target) rgb = mix(rgb, color, strength);
  rgb = clamp((rgb - 0.5) * tone.y + 0.5 + tone.x, 0.0, 1.0);

  if (inside && outline > 0.0 && isOutline(p, label, outline)) rgb = entry.rgb;
  // The selected object keeps a line of the same width on the screen at any zoom.
  float pixel = ratio / view.z;
  if (inside && (flags(entry) & ${SELECTED}) != 0) {
    if (isEdge(p, label, 2.0 * pixel)) rgb = entry.rgb;
  } else if (hasLabels) {
    for (int i = 0; i < 16; i += 2) {
      vec4 other = slot(labelAt(p + RING[i] * 1.5 * pixel));
      if ((flags(other) & ${SELECTED}) != 0) rgb = vec3(1);
    }
  }
  if (inside && (flags(entry) & ${HOVERED}) != 0) rgb = mix(rgb, vec3(1), 0.25);
  result = vec4(rgb, 1);
}`;

/** Gaussian blur along one direction; sigma in texels of the target. */
export const BLUR = `#version 300 es
precision highp float;
uniform sampler2D source;
uniform vec2 direction;
uniform vec2 target;
uniform float sigma;
uniform float lod;
out vec4 result;
void main() {
  vec2 uv = gl_FragCoord.xy / target;
  int radius = int(ceil(3.0 * sigma));
  vec3 sum = vec3(0);
  float weights = 0.0;
  for (int i = -radius; i <= radius; i++) {
    float weight = sigma > 0.0 ? exp(-0.5 * float(i * i) / (sigma * sigma)) : 1.0;
    sum += weight * textureLod(source, uv + direction * float(i) / target, lod).rgb;
    weights += weight;
  }
  result = vec4(sum / weights, 1);
}`;

/** Means of blocks of the frame, the first one in its corner. */
export const PIXELATE = `#version 300 es
precision highp float;
uniform sampler2D source;
uniform vec2 size;
uniform float block;
out vec4 result;
void main() {
  vec2 low = floor(gl_FragCoord.xy) * block;
  vec2 high = min(low + block, size);
  vec3 sum = vec3(0);
  float taps = min(block, 16.0);
  for (float y = 0.5; y < taps; y += 1.0)
    for (float x = 0.5; x < taps; x += 1.0)
      sum += textureLod(source, mix(low, high, vec2(x, y) / taps) / size, log2(block / taps)).rgb;
  result = vec4(sum / (taps * taps), 1);
}`;
