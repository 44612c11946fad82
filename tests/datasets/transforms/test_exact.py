"""Operations one by one, against the released pipeline and the composed ones."""

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import exact_transforms as exact
from exact_transforms import (
    ExactAugment,
    Operation,
    apply_operations,
)
from golden_cases import GoldenCase, assert_exact, assert_within, discover
from projects.sam2.datasets import ClipState, ClipWarp
from projects.sam2.datasets.transforms.augmentation import (
    Resize,
)
from released_draws import (
    draw_affine,
    draw_grey,
    draw_jitter,
    draw_mirror,
    draw_mosaic,
    golden_clip,
    unpack,
)

Load = Callable[..., ClipState]
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def published(state: ClipState) -> ClipState:
    """The fine-tuning recipe at 80 pixels."""
    state = apply_operations(state, draw_mirror(0.5))
    state = apply_operations(state, draw_affine(state.size, degrees=25, shear=20))
    random.choice([80])
    state = apply_operations(state, [Resize(size=(80, 80))])
    state = apply_operations(state, [draw_jitter(0.1, 0.03, 0.03)])
    state = apply_operations(state, draw_grey(0.05))
    later = [draw_jitter(0.1, 0.05, 0.05) for _ in state.frames]
    return apply_operations(state, later)


DRAWS: dict[str, Callable[[ClipState], Sequence[Operation | None]]] = {
    'dp_none': lambda _: [None],
    'dp_square': lambda _: [Resize(size=(96, 96))],
    'dp_short': lambda _: [Resize(size=(38, 50))],
    'dp_flip': lambda _: draw_mirror(1.0),
    'dp_affine': lambda state: draw_affine(state.size, degrees=25, shear=20),
    'dp_affine_sct': lambda state: draw_affine(
        state.size, degrees=10, scale=(0.8, 1.2), translate=0.1
    ),
    'dp_jitter': lambda _: [draw_jitter(0.1, 0.03, 0.03)],
    'dp_jitter_ind': lambda state: [
        draw_jitter(0.4, 0.4, 0.4, hue=0.1) for _ in state.frames
    ],
    'dp_gray': lambda _: draw_grey(1.0),
    'dp_mosaic': lambda _: draw_mosaic(),
}
# One clip for each seed.
PUBLISHED = 'dp_mose_full_'
# Clips of a batch: see the test of the collation.
COLLATED = 'dp_col'


def clips() -> list[Any]:
    """Parameters: the golden cases and their transformed clips."""
    found = []
    for parameter in discover('data_golden*'):
        golden: GoldenCase | None = parameter.values[0]
        if golden is None:
            return [pytest.param(None, '', id=parameter.id, marks=parameter.marks)]
        found += [
            pytest.param(golden, name, id=f'{name}-{golden.name}')
            for name in golden.spec
            if name.startswith('dp_') and not name.startswith(COLLATED)
        ]
    return found


@pytest.mark.golden
@pytest.mark.parametrize(('case', 'name'), clips())
def test_published_operations_give_the_released_pixels(
    case: GoldenCase, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name not in DRAWS and not name.startswith(PUBLISHED):
        pytest.skip(f'{name}: which operations made it?')
    if name == 'dp_affine_sct':  # the one case with another resampling
        monkeypatch.setattr(exact, 'RESAMPLING', Image.Resampling.BICUBIC)
    state = golden_clip(case, name, unpack(case, tmp_path))
    if name in DRAWS:
        state = apply_operations(state, DRAWS[name](state))
    else:
        state = published(state)
    for time, (frame, masks) in enumerate(
        zip(state.frames, state.masklets, strict=True)
    ):
        expected = case.arrays[f'{name}/img{time}']
        if expected.dtype == np.float32:
            expected = 255 * expected.transpose(1, 2, 0).astype(np.float64)
        if name == 'dp_square' or name.startswith(PUBLISHED):
            expected = expected * STD + 255 * MEAN
        # One of 255, and the rounding of float32.
        assert_within(frame, expected, 1 + 1e-4, f'image {time}')
        assert masks is not None
        for position, mask in enumerate(masks.masks):
            released = case.arrays[f'{name}/mask{time}_{position}']
            assert_exact(mask, released > 0, f'mask {position} of {time}')


TRANSFORMS: list[dict[str, Any]] = [
    {'type': 'ClipRandomFlip', 'probability': 1.0},
    {'type': 'ClipRandomAffine', 'degrees': 25, 'shear': 20, 'scale': (0.8, 1.2)},
    {'type': 'ClipResize', 'size': (96, 112)},
    {'type': 'ClipFit', 'size': (128, 128)},
    {
        'type': 'ClipColorJitter',
        'brightness': 0.1,
        'contrast': 0.1,
        'saturation': 0.1,
        'consistent': False,
    },
    {'type': 'ClipRandomGrayscale', 'probability': 0.5},
]


def smooth(state: ClipState) -> ClipState:
    """The clip with frames that resampling changes little."""
    y, x = np.indices((24, 32))
    frame = np.stack([60 + 3 * x, 60 + 4 * y, 180 - 2 * x - y], axis=-1)
    return replace(state, frames=(frame.astype(np.uint8),) * 3)


@pytest.mark.parametrize('seed', [0, 1, 2, 3])
def test_composed_and_exact_clips_agree(loaded_state: Load, seed: int) -> None:
    exactly = ExactAugment(transforms=TRANSFORMS)
    composed = smooth(loaded_state(seed))
    for transform in exactly.transforms:
        composed = transform(composed)
    composed = ClipWarp()(composed)
    separate = exactly(smooth(loaded_state(seed)))
    assert separate.size == composed.size == (128, 128)
    for one, other in zip(separate.frames, composed.frames, strict=True):
        # Borders of the frame are where they differ.
        assert np.median(np.abs(one.astype(int) - other)) <= 2
        assert np.mean(np.abs(one.astype(int) - other)) <= 5
    # Of single rows and columns of 24 x 32: five resamplings against one.
    for first, second in zip(separate.masklets, composed.masklets, strict=True):
        assert first is not None
        assert second is not None
        both = (first.masks & second.masks).sum()
        assert both > 0.85 * (first.masks | second.masks).sum()
