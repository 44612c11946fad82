"""Draws random numbers in the released pipeline's order, for its golden clips.

Python's ``random`` draws frames, objects, mirrors, greys and mosaics; torch draws
affine transforms and colours.
"""

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from golden_cases import GoldenCase, assert_exact, unpack_archive
from projects.sam2.datasets import (
    ClipLoadFrames,
    ClipLoadMasklets,
    ClipPaletteDataset,
    ClipState,
)
from projects.sam2.datasets.transforms.augmentation import (
    Affine,
    ColorJitter,
    Flip,
    Grayscale,
)
from projects.sam2.datasets.transforms.mosaic import Mosaic
from projects.sam2.structures import VideoSource


def unpack(case: GoldenCase, folder: Path) -> Path:
    """Unpack the synthetic files of the golden data; the test skips without them.

    Args:
        case: ``data_golden<suffix>``, with ``data<suffix>.tar.gz`` or the common one.
    """
    suffix = case.name.removeprefix('data_golden')
    archives = [case.path.with_name(f'data{end}.tar.gz') for end in (suffix, '')]
    present = [archive for archive in archives if archive.is_file()]
    if not present:
        pytest.skip(f'no {archives[0]} beside {case.path.name}')
    unpack_archive(present[0], folder)
    return folder / 'data'


def uniform(low: float, high: float) -> float:
    """One number from torch."""
    return float(torch.empty(1).uniform_(low, high))


@dataclass(frozen=True)
class Choice:
    """Frames and objects of a clip."""

    start: int
    backwards: bool
    frames: tuple[int, ...]
    object_ids: tuple[int, ...]


def choose(
    source: VideoSource, num_frames: int, max_num_objects: int, reverse: float
) -> Choice:
    """Draw frames until the first one shows an object, then objects."""
    among = source.annotated_frames()
    while True:
        start = random.randrange(len(among) - num_frames + 1)
        frames = among[start : start + num_frames]
        backwards = random.random() < reverse
        frames = frames[::-1] if backwards else frames
        masks = source.read_masks(frames[0])
        seen = visible(masks) if masks is not None else []
        if seen:
            break
    ids = random.sample(seen, min(len(seen), max_num_objects))
    return Choice(start, backwards, frames, tuple(ids))


def visible(masks: Any) -> list[int]:
    """Objects of a frame whose masks have pixels."""
    pairs = zip(masks.object_ids, masks.masks, strict=True)
    return [object_id for object_id, mask in pairs if mask.any()]


def golden_clip(case: GoldenCase, name: str, data: Path) -> ClipState:
    """The clip of a case as it is before its transforms; seeds both generators.

    The test skips where the file lacks it.
    """
    if name not in case.spec:
        pytest.skip(f'{case.name} holds no clip {name}')
    spec = case.spec[name]
    random.seed(spec['seed'])
    torch.manual_seed(spec['seed'])
    dataset = ClipPaletteDataset(data_root=str(data / 'pal'))
    source = dataset.open_video(dataset.video_name(spec['idx']))
    choice = choose(source, spec['num_frames'], spec['max_num_objects'], 0.0)
    names = [int(source.frame_name(index)) for index in choice.frames]
    frames = [frame[0]['frame_index'] for frame in spec['frames']]
    assert_exact(names, frames, 'frames')
    objects = [shown['object_id'] for shown in spec['frames'][0]]
    assert_exact([*choice.object_ids], objects, 'objects')
    state = ClipState(
        source=source,
        sample_index=spec['idx'],
        seed=0,
        rng=np.random.default_rng(0),
        frame_indices=choice.frames,
        object_ids=choice.object_ids,
        first_masks=source.read_masks(choice.frames[0]),
    )
    return ClipLoadMasklets()(ClipLoadFrames()(state))


def draw_mirror(probability: float) -> list[Flip | None]:
    """Flip, or not."""
    return [Flip() if random.random() < probability else None]


def draw_affine(
    size: tuple[int, int],
    *,
    degrees: float,
    shear: float = 0.0,
    scale: tuple[float, float] | None = None,
    translate: float = 0.0,
) -> list[Affine]:
    """An affine transform; parts that are switched off draw no number."""
    angle = uniform(-degrees, degrees)
    limits = [translate * size[1], translate * size[0]] if translate else []
    shift = [round(uniform(-limit, limit)) for limit in limits] or [0, 0]
    factor = uniform(*scale) if scale else 1.0
    turn = uniform(-shear, shear) if shear else 0.0
    return [Affine(angle=angle, shear=turn, scale=factor, shift=(shift[0], shift[1]))]


def draw_jitter(*strengths: float, hue: float = 0.0) -> ColorJitter:
    """Colours: the order of four operations, of which hue may be none."""
    order = torch.randperm(4).tolist()
    factors = [uniform(1 - strength, 1 + strength) for strength in strengths]
    turn = uniform(-hue, hue) if hue else 0.0
    return ColorJitter(
        order=tuple(index for index in order if index < 3 or hue),
        factors=(*factors, turn),
    )


def draw_grey(probability: float) -> list[Grayscale | None]:
    """Grey, or not."""
    return [Grayscale() if random.random() < probability else None]


def draw_mosaic() -> list[Mosaic]:
    """A mosaic; whether there is one is drawn before."""
    random.random()
    row, column = random.randint(0, 1), random.randint(0, 1)
    mirrored = (torch.rand(2, 2) < 0.5).flatten().tolist()
    return [Mosaic(row=row, column=column, mirrored=tuple(mirrored))]
