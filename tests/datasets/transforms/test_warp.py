"""The one warp of a clip, against sampling pixel by pixel."""

from collections.abc import Callable
from dataclasses import replace
from itertools import product

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from projects.sam2.datasets import (
    ClipColorJitter,
    ClipRandomAffine,
    ClipRandomFlip,
    ClipResize,
    ClipState,
    ClipWarp,
)
from projects.sam2.datasets.transforms.augmentation import (
    FILL_COLOR,
    Affine,
    resize_matrix,
    warp_frame,
    warp_labels,
    warp_masks,
)
from projects.sam2.structures import FrameMasks

Load = Callable[..., ClipState]
Matrix = NDArray[np.float64]
TURNED = Affine(angle=17.0, shear=9.0, scale=1.0, shift=(2.3, -1.6)).matrix((24, 32))
GROWN = resize_matrix((24, 32), (40, 36)) @ TURNED
SHRUNK = resize_matrix((24, 32), (11, 13)) @ TURNED


def picture() -> NDArray[np.uint8]:
    """A smooth picture with a steep edge."""
    rng = np.random.default_rng(3)
    coarse = rng.integers(0, 255, (5, 6, 3), np.uint8)
    frame = np.asarray(cv2.resize(coarse, (32, 24)), np.uint8)
    frame[8:14, 9:20] = 250
    return frame


def literal_bilinear(
    frame: NDArray[np.uint8], matrix: Matrix, size: tuple[int, int]
) -> Matrix:
    """Sample each pixel of the result from the four around its origin."""
    inverse = np.linalg.inv(matrix)
    result = np.zeros((*size, 3))
    for row in range(size[0]):
        for column in range(size[1]):
            x, y, _ = inverse @ (column, row, 1.0)
            left, top = int(np.floor(x)), int(np.floor(y))
            for near_y, near_x in product((top, top + 1), (left, left + 1)):
                weight = (1 - abs(x - near_x)) * (1 - abs(y - near_y))
                inside = 0 <= near_x < frame.shape[1] and 0 <= near_y < frame.shape[0]
                color = frame[near_y, near_x] if inside else FILL_COLOR
                result[row, column] += weight * np.array(color, float)
    return result


@pytest.mark.parametrize(('matrix', 'size'), [(TURNED, (24, 32)), (GROWN, (40, 36))])
def test_frames_are_sampled_bilinearly(matrix: Matrix, size: tuple[int, int]) -> None:
    frame = picture()
    # Where the transform shrinks one direction a little, it reduces first.
    scale_x, scale_y = np.linalg.norm(matrix[:2, :2], axis=0)
    assert min(scale_x, scale_y) >= 1 - 1e-9
    difference = warp_frame(frame, matrix, size) - literal_bilinear(frame, matrix, size)
    assert np.abs(difference).max() <= 4  # OpenCV's weights are multiples of 1/32
    assert np.abs(difference).mean() <= 0.6


def test_shrinking_frames_are_averaged_first() -> None:
    frame = picture()
    scale_x, scale_y = np.linalg.norm(SHRUNK[:2, :2], axis=0)
    height, width = round(24 * scale_y), round(32 * scale_x)
    reduced = cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA)
    small = np.asarray(reduced, np.uint8)
    rest = SHRUNK @ np.linalg.inv(resize_matrix((24, 32), (height, width)))
    expected = literal_bilinear(small, rest, (11, 13))
    difference = np.abs(warp_frame(frame, SHRUNK, (11, 13)) - expected)
    assert difference.max() <= 4


@pytest.mark.parametrize('factor', [2, 4])
def test_pure_reduction_is_the_mean_of_the_pixels(factor: int) -> None:
    frame = np.random.default_rng(0).integers(0, 255, (24, 32, 3)).astype(np.uint8)
    size = (24 // factor, 32 // factor)
    blocks = frame.reshape(size[0], factor, size[1], factor, 3).mean(axis=(1, 3))
    warped = warp_frame(frame, resize_matrix((24, 32), size), size)
    assert np.abs(warped - blocks).max() <= 0.5


def test_fine_checks_become_grey_and_not_a_pattern() -> None:
    checks = np.indices((64, 64)).sum(axis=0) % 2 * 255
    frame = np.repeat(checks[..., None], 3, axis=2).astype(np.uint8)
    flip = np.array([[-1.0, 0, 63], [0, 1, 0], [0, 0, 1]])
    small = warp_frame(frame, resize_matrix((64, 64), (16, 16)) @ flip, (16, 16))
    assert np.abs(small.astype(int) - 127).max() <= 2


def test_identity_and_mirror_are_exact() -> None:
    frame = picture()
    np.testing.assert_array_equal(warp_frame(frame, np.eye(3), (24, 32)), frame)
    flip = np.array([[-1.0, 0, 31], [0, 1, 0], [0, 0, 1]])
    np.testing.assert_array_equal(warp_frame(frame, flip, (24, 32)), frame[:, ::-1])


@pytest.mark.parametrize(
    ('matrix', 'size'), [(TURNED, (24, 32)), (GROWN, (40, 36)), (SHRUNK, (11, 13))]
)
def test_labels_come_from_the_nearest_pixel(
    matrix: Matrix, size: tuple[int, int]
) -> None:
    labels = np.random.default_rng(1).integers(1, 250, (24, 32)).astype(np.uint8)
    warped = warp_labels(labels, matrix, size)
    inverse = np.linalg.inv(matrix)
    compared = 0
    for row in range(size[0]):
        for column in range(size[1]):
            x, y, _ = inverse @ (column, row, 1.0)
            if min(abs(x % 1 - 0.5), abs(y % 1 - 0.5)) < 0.02:
                continue  # as near to two pixels: rounding decides
            near_x, near_y = round(x), round(y)
            inside = 0 <= near_x < 32 and 0 <= near_y < 24
            assert warped[row, column] == (labels[near_y, near_x] if inside else 0)
            compared += 1
    assert compared > 0.9 * size[0] * size[1]


def masks_of(*rows: slice, void: slice | None = None) -> FrameMasks:
    """Horizontal bands as objects 1, 2 and so on."""
    masks = np.zeros((len(rows), 24, 32), bool)
    for index, band in enumerate(rows):
        masks[index, band] = True
    void_mask = np.zeros((24, 32), bool)
    if void is not None:
        void_mask[void] = True
    return FrameMasks(
        object_ids=tuple(range(1, len(rows) + 1)),
        masks=masks,
        void=None if void is None else void_mask,
    )


@pytest.mark.parametrize(
    'masks',
    [
        masks_of(slice(2, 8), slice(8, 20)),
        masks_of(slice(2, 8), slice(8, 20), void=slice(20, 22)),
        masks_of(slice(2, 12), slice(8, 20), void=slice(20, 22)),  # they overlap
        masks_of(slice(2, 12), void=slice(8, 22)),  # void over an object
        masks_of(*(slice(i % 24, i % 24 + 1) for i in range(300))),  # beyond a byte
    ],
)
def test_each_mask_moves_as_if_it_were_alone(masks: FrameMasks) -> None:
    warped = warp_masks(masks, GROWN, (40, 36))
    assert warped.object_ids == masks.object_ids
    for before, after in zip(masks.masks, warped.masks, strict=True):
        alone = warp_labels(before.astype(np.uint8), GROWN, (40, 36)) > 0
        np.testing.assert_array_equal(after, alone)
    assert (warped.void is None) == (masks.void is None)
    if masks.void is not None and warped.void is not None:
        alone = warp_labels(masks.void.astype(np.uint8), GROWN, (40, 36)) > 0
        np.testing.assert_array_equal(warped.void, alone)


def test_frame_without_objects_stays_so() -> None:
    warped = warp_masks(masks_of(), GROWN, (40, 36))
    assert warped.masks.shape == (0, 40, 36)


def test_frames_and_masks_move_together(loaded_state: Load) -> None:
    state = loaded_state()
    frames = []
    for masks in state.masklets:
        assert masks is not None
        frames.append(np.where(masks.masks[0][..., None], 255, 0).astype(np.uint8))
    frames = [np.repeat(frame, 3, axis=2) for frame in frames]
    state = replace(state, frames=tuple(frames))
    for transform in (
        ClipRandomFlip(probability=1.0),
        ClipRandomAffine(degrees=25, shear=20),
        ClipResize(size=(64, 64)),
    ):
        state = transform(state)
    state = ClipWarp()(state)
    for frame, masks in zip(state.frames, state.masklets, strict=True):
        assert masks is not None
        bright = frame[..., 0] > 190
        assert (bright & masks.masks[0]).sum() > 0.8 * masks.masks[0].sum()
        assert (bright & ~masks.masks[0]).sum() < 0.1 * masks.masks[0].sum()


def test_colours_are_applied_and_nothing_is_left_to_apply(loaded_state: Load) -> None:
    jitter = ClipColorJitter(
        brightness=0.5, contrast=0.0, saturation=0.0, consistent=True
    )
    state = jitter(loaded_state(seed=2))
    assert state.colors is not None
    factor = state.colors[0, 0, 0]
    warped = ClipWarp()(state)
    assert warped.colors is None
    np.testing.assert_array_equal(warped.matrix, np.eye(3))
    expected = (state.frames[0] * factor).clip(0, 255)
    assert np.abs(warped.frames[0] - expected).max() <= 1
