"""Weights and frames of the golden data of SAM 3's tracker, from seeds alone.

A weight is a function of its name in transformers, its shape and a salt:
``normal(PCG64(crc32(salt + name))) * scale + mean`` in float32, by the first rule that
matches the name.
"""

import fnmatch
import zlib
from collections.abc import Mapping, Sequence

import numpy as np

# Gains of last layers, so that logits lie on both sides of 0.
GAINS = (
    ('*output_hypernetworks_mlps.*.proj_out.weight', 6.0),
    ('*iou_prediction_head.proj_out.weight', 3.0),
    ('*pred_obj_score_head.proj_out.weight', 4.0),
)
TRANSPOSED = ('*.upscale_conv?.weight', '*.scale_layers.*.weight')
FUSER_SCALE = '*memory_fuser.layers.*.scale'
FOURIER = '*.positional_embedding'


def scale_and_mean(name: str, shape: Sequence[int]) -> tuple[float, float]:
    """Scale and mean of a weight."""
    if name.endswith('.bias'):
        return 0.02, 0.0
    if fnmatch.fnmatchcase(name, FOURIER):
        return 1.0, 0.0
    if fnmatch.fnmatchcase(name, FUSER_SCALE):
        return 0.1, 0.5
    if name.endswith('.weight') and len(shape) == 1:  # norms
        return 0.05, 1.0
    if not name.endswith('.weight') or 'embed.weight' in name or 'token' in name:
        return 0.3, 0.0
    is_transposed = any(fnmatch.fnmatchcase(name, pattern) for pattern in TRANSPOSED)
    fan_in = shape[0] if is_transposed else int(np.prod(shape[1:]))
    gain = next((g for pattern, g in GAINS if fnmatch.fnmatchcase(name, pattern)), 1.0)
    return gain / float(np.sqrt(fan_in)), 0.0


def weight(name: str, shape: Sequence[int], salt: str) -> np.ndarray:
    """A weight, float32."""
    scale, mean = scale_and_mean(name, shape)
    seed = zlib.crc32((salt + name).encode())
    generator = np.random.Generator(np.random.PCG64(seed))
    values = generator.standard_normal(tuple(shape), dtype=np.float32)
    return values * np.float32(scale) + np.float32(mean)


def weights(
    shapes: Mapping[str, Sequence[int]], salt: str, added: Mapping[str, float]
) -> dict[str, np.ndarray]:
    """All weights; ``added`` names those that a number is added to."""
    made = {name: weight(name, shape, salt) for name, shape in shapes.items()}
    for name, number in added.items():
        made[name] += np.float32(number)
    return made


def frames(count: int, side: int, salt: str) -> np.ndarray:
    """Frames of coloured blocks that drift, (count, side, side, 3), uint8."""
    generator = np.random.Generator(np.random.PCG64(zlib.crc32(salt.encode())))
    cells = generator.integers(0, 256, (side // 8, side // 8, 3), dtype=np.uint8)
    blocks = cells.repeat(8, axis=0).repeat(8, axis=1)
    noise = generator.integers(0, 24, (count, side, side, 3), dtype=np.uint8)
    drifted = [np.roll(blocks, (2 * i, 3 * i), axis=(0, 1)) for i in range(count)]
    return np.stack(drifted) // 4 * 3 + noise


def disc(side: int) -> np.ndarray:
    """A mask whose edge does not fall between cells, (side, side), bool."""
    rows, columns = np.mgrid[:side, :side] / side
    inside: np.ndarray = (rows - 0.45) ** 2 + (columns - 0.54) ** 2 < 0.27**2
    return inside
