"""Clips tiled with themselves."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from projects.sam2.datasets import ClipMosaic, ClipResize, ClipState
from projects.sam2.datasets.transforms.augmentation import resize_matrix, warp_frame
from projects.sam2.datasets.transforms.mosaic import Mosaic, cell_size, cut
from projects.sam2.structures import FrameMasks

Load = Callable[..., ClipState]


def test_every_cell_shows_the_frame_and_one_its_masks(loaded_state: Load) -> None:
    state = loaded_state()
    tiled = ClipMosaic(probability=1.0)(state)
    small = warp_frame(state.frames[1], resize_matrix((24, 32), (12, 16)), (12, 16))
    for row in (slice(12), slice(12, 24)):
        for column in (slice(16), slice(16, 32)):
            np.testing.assert_array_equal(tiled.frames[1][row, column], small)
    before, after = state.masklets[1], tiled.masklets[1]
    assert before is not None
    assert after is not None
    cells = after.masks.reshape(2, 2, 12, 2, 16).any(axis=(0, 2, 4))
    assert cells.sum() == 1
    assert after.masks.sum() == pytest.approx(before.masks.sum() / 4, rel=0.2)


def test_all_frames_of_a_clip_use_one_cell_and_all_cells_are_drawn(
    loaded_state: Load,
) -> None:
    found = set()
    for seed in range(30):
        masklets = ClipMosaic(probability=1.0)(loaded_state(seed)).masklets
        cells = [
            tuple(masks.masks.reshape(2, 2, 12, 2, 16).any(axis=(0, 2, 4)).flatten())
            for masks in masklets
            if masks is not None
        ]
        assert len(set(cells)) == 1
        found.add(cells[0])
    assert len(found) == 4


def test_mosaics_come_at_their_rate(loaded_state: Load) -> None:
    mosaic = ClipMosaic(probability=0.25)
    drawn = [mosaic.draw(loaded_state(seed)) != [None] for seed in range(200)]
    assert 0.15 < np.mean(drawn) < 0.35


def test_mirrored_cells_are_mirrored_with_their_masks(loaded_state: Load) -> None:
    state = loaded_state()
    plain = ClipMosaic(probability=1.0)(state)
    state = loaded_state()
    turned = ClipMosaic(probability=1.0, mirror_probability=1.0)(state)
    for one, other in zip(plain.frames, turned.frames, strict=True):
        halves = one.reshape(24, 2, 16, 3)[:, :, ::-1]
        np.testing.assert_array_equal(halves.reshape(24, 32, 3), other)
    first, second = plain.masklets[0], turned.masklets[0]
    assert first is not None
    assert second is not None
    cells = first.masks.reshape(2, 24, 2, 16)[..., ::-1].reshape(2, 24, 32)
    np.testing.assert_array_equal(cells, second.masks)


def test_void_goes_where_the_masks_go(loaded_state: Load) -> None:
    state = loaded_state()
    masks = state.masklets[0]
    assert masks is not None
    with_void = FrameMasks(
        object_ids=masks.object_ids, masks=masks.masks, void=masks.masks[0]
    )
    state = replace(state, masklets=(with_void, None, None))
    tiled = ClipMosaic(probability=1.0, mirror_probability=1.0)(state)
    first, second, _ = tiled.masklets
    assert first is not None
    assert first.void is not None
    assert second is None
    np.testing.assert_array_equal(first.void, first.masks[0])


def test_odd_frames_are_cut_as_evenly_as_pixels_allow() -> None:
    assert cut(7) == [slice(0, 3), slice(3, 7)]
    cell = Mosaic(row=1, column=0).cell((7, 9))
    assert cell_size(cell) == (4, 4)


def test_geometry_must_be_applied_before(loaded_state: Load) -> None:
    waiting = ClipResize(size=(12, 12))(loaded_state())
    with pytest.raises(ValueError, match='after ClipWarp'):
        ClipMosaic(probability=0.1)(waiting)
