"""Loading of the chosen frames and masklets."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from projects.sam2.datasets import (
    ClipDataError,
    ClipLoadFrames,
    ClipLoadMasklets,
    ClipState,
)

Make = Callable[..., ClipState]
SIZE = (24, 32)


def square(row: int) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """A mask of one row."""
    mask = np.zeros(SIZE, bool)
    mask[row] = True
    return mask


@pytest.fixture
def chosen(make_state: Make) -> ClipState:
    """Frames 3, 1 and 0 with objects 5 and 2; frame 1 has no ground truth."""
    masks = {3: {2: square(1), 4: square(2), 5: square(3)}, 0: {2: square(9)}}
    state = make_state(masks)
    return replace(
        state,
        frame_indices=(3, 1, 0),
        object_ids=(5, 2),
        first_masks=state.source.read_masks(3),
    )


def test_frames_come_in_the_order_of_their_indices(chosen: ClipState) -> None:
    loaded = ClipLoadFrames()(chosen)
    assert loaded.size == loaded.original_size == SIZE
    for index, frame in zip((3, 1, 0), loaded.frames, strict=True):
        np.testing.assert_array_equal(frame, chosen.source.read_frame(index))


def test_masklets_follow_the_chosen_objects(chosen: ClipState) -> None:
    loaded = ClipLoadMasklets()(ClipLoadFrames()(chosen))
    first, second, third = loaded.masklets
    assert first is not None
    assert third is not None
    assert second is None
    assert first.object_ids == third.object_ids == (5, 2)
    np.testing.assert_array_equal(first.masks, [square(3), square(1)])
    np.testing.assert_array_equal(third.masks, [np.zeros(SIZE, bool), square(9)])


def test_masks_of_another_size_raise(chosen: ClipState) -> None:
    loaded = ClipLoadFrames()(chosen)
    other = replace(loaded, size=(12, 16))
    with pytest.raises(ClipDataError, match=r'memory/00003.*\(24, 32\).*\(12, 16\)'):
        ClipLoadMasklets()(other)


def test_frames_of_several_sizes_raise(make_state: Make) -> None:
    state = make_state({}, num_frames=2)
    frames = (state.source.read_frame(0), np.zeros((3, 4, 3), np.uint8))
    uneven = replace(state.source, frames=frames)  # type: ignore[type-var]
    with pytest.raises(ClipDataError, match=r'memory/00001: frame of \(3, 4\)'):
        ClipLoadFrames()(replace(state, source=uneven, frame_indices=(0, 1)))


def test_each_frame_is_decoded_once_and_in_the_order_of_time(
    chosen: ClipState, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    plain = type(chosen.source).read_frame

    def noted(source: object, index: int) -> object:
        read.append(index)
        return plain(source, index)  # type: ignore[arg-type]  # the same source

    monkeypatch.setattr(type(chosen.source), 'read_frame', noted)
    ClipLoadFrames()(replace(chosen, frame_indices=(3, 1, 0, 1)))
    assert read == [0, 1, 3]
