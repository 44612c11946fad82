"""Reads the clip size and the precision that a config trains with."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mmengine.config import Config

SAMPLER = 'ClipSampleFrames'
RESIZE = 'ClipResize'
BFLOAT16_WRAPPER = 'SAM2BFloat16OptimWrapper'


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Clip size and precision of a training step.

    Attributes:
        image_size: Side of the square frames in pixels.
        num_frames: Frames of the clip.
        num_objects: Objects of the clip.
        dtype: ``'float32'``, or ``'bfloat16'`` for autocast.
    """

    image_size: int
    num_frames: int
    num_objects: int
    dtype: str


def sizes_of(config: Config) -> Sizes:
    """Read what a config trains on: its longest clips, with all their objects.

    Raises:
        ValueError: If the training data have no sampler, or clips of several sizes.
    """
    data = config.get('train_dataloader')
    samplers, resizes = (list(find_type(data, name)) for name in (SAMPLER, RESIZE))
    sides = {side for resize in resizes for side in resize['size']}
    if not samplers or len(sides) != 1:
        msg = (
            f'{config.filename}: {len(samplers)} {SAMPLER} in train_dataloader and '
            f'{RESIZE} to sides of {sorted(sides)}; a clip of one size is measured: '
            'give --image-size, --num-frames and --num-objects in place of --as-trained'
        )
        raise ValueError(msg)
    longest = max(samplers, key=most_frames)
    wrapper = config.get('optim_wrapper') or {}
    half = wrapper.get('type') == BFLOAT16_WRAPPER
    return Sizes(
        image_size=sides.pop(),
        num_frames=most_frames(longest),
        num_objects=longest['max_num_objects'],
        dtype='bfloat16' if half else 'float32',
    )


def most_frames(sampler: dict[str, Any]) -> int:
    """Largest number of frames of a sampler's clips over all epochs."""
    later = [num_frames for _, num_frames in sampler.get('later_num_frames', ())]
    most: int = max([sampler['num_frames'], *later])
    return most


def find_type(value: Any, name: str) -> Iterator[dict[str, Any]]:
    """Find all entries of a type, at any depth."""
    if isinstance(value, dict):
        if value.get('type') == name:
            yield value
        value = list(value.values())
    if isinstance(value, list | tuple):
        for child in value:
            yield from find_type(child, name)
