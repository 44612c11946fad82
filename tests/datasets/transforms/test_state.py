"""The record of a clip that is being made."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from projects.sam2.datasets import ClipState

Make = Callable[..., ClipState]


def test_new_clip_has_no_geometry_and_no_colours(make_state: Make) -> None:
    state = make_state({})
    np.testing.assert_array_equal(state.matrix, np.eye(3))
    assert state.colors is None
    assert state.num_frames == 0


def test_stages_cannot_change_their_input(make_state: Make) -> None:
    state = make_state({})
    with pytest.raises(dataclasses.FrozenInstanceError):
        state.size = (1, 1)  # type: ignore[misc]
    assert dataclasses.replace(state, frame_indices=(4, 2)).num_frames == 2
