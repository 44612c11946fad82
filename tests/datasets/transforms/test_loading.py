"""Frames and masklets, decoded and packed."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from projects.sam2.datasets import (
    ClipDataError,
    ClipLoadFrames,
    ClipLoadMasklets,
    ClipPack,
    ClipState,
)
from projects.sam2.datasets.io.errors import ClipDrawError
from projects.sam2.structures import FrameMasks

Make = Callable[..., ClipState]
Load = Callable[..., ClipState]
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


def test_fields_hold_what_the_clip_held(loaded_state: Load) -> None:
    state = loaded_state()
    sample = ClipPack()(state)
    assert sample.frames.shape == (3, 3, 24, 32)
    assert sample.frames.is_contiguous()
    for time in range(3):
        expected = state.frames[time].transpose(2, 0, 1)
        np.testing.assert_array_equal(sample.frames[time].numpy(), expected)
        masks = state.masklets[time]
        assert masks is not None
        np.testing.assert_array_equal(sample.masklets[time].numpy(), masks.masks)
    assert sample.object_ids.tolist() == [2, 1]
    assert (sample.seed, sample.sample_index, sample.video_name) == (9, 4, 'memory')
    assert sample.frame_indices == (0, 1, 2)


def test_frames_without_ground_truth_are_marked(loaded_state: Load) -> None:
    state = loaded_state()
    sample = ClipPack()(replace(state, masklets=(state.masklets[0], None, None)))
    assert sample.annotated.tolist() == [True, False, False]
    assert not sample.masklets[1:].any()


def test_void_is_kept_for_its_frame(loaded_state: Load) -> None:
    state = loaded_state()
    first = state.masklets[0]
    assert first is not None
    void = np.zeros((24, 32), bool)
    void[20:] = True
    with_void = FrameMasks(object_ids=(2, 1), masks=first.masks, void=void)
    sample = ClipPack()(replace(state, masklets=(with_void, *state.masklets[1:])))
    np.testing.assert_array_equal(sample.void[0].numpy(), void)
    assert not sample.void[1:].any()


def lose(state: ClipState, *positions: int) -> ClipState:
    """Empty the masks of some objects on the first frame."""
    first = state.masklets[0]
    assert first is not None
    masks = first.masks.copy()
    masks[list(positions)] = False
    emptied = FrameMasks(object_ids=first.object_ids, masks=masks)
    return replace(state, masklets=(emptied, *state.masklets[1:]))


def test_object_lost_on_the_first_frame_is_left_out(loaded_state: Load) -> None:
    sample = ClipPack()(lose(loaded_state(), 0))
    assert sample.object_ids.tolist() == [1]
    assert sample.masklets.shape[1] == 1
    assert sample.object_ids.dtype == torch.int64


def test_clip_that_lost_all_objects_raises(loaded_state: Load) -> None:
    with pytest.raises(ClipDrawError, match='memory: no object is left'):
        ClipPack()(lose(loaded_state(), 0, 1))
