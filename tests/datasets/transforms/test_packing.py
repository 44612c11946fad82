"""The sample that leaves the transforms."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from projects.sam2.datasets import ClipPack, ClipState
from projects.sam2.datasets.io.errors import ClipDrawError
from projects.sam2.structures import FrameMasks

Load = Callable[..., ClipState]


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
