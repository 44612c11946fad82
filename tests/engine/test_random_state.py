"""Random states are captured whole, in types that weights_only reads."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch

from projects.sam2.engine.hooks.random_state_hook import (
    capture_random_state,
    restore_random_state,
)


def draw() -> tuple[float, float, float]:
    """One number of each library's global stream, with a cached one behind NumPy's."""
    normal = float(np.random.standard_normal())  # noqa: NPY002  what is tested
    return random.random(), normal, float(torch.rand(()))


@pytest.fixture(autouse=True)
def _leave_streams_alone() -> object:
    state = capture_random_state()
    yield
    restore_random_state(state)


def test_restored_states_draw_the_same_numbers() -> None:
    draw()
    state = capture_random_state()
    first = [draw() for _ in range(3)]
    restore_random_state(state)
    assert [draw() for _ in range(3)] == first


def test_states_pass_through_a_file_that_is_read_with_weights_only(
    tmp_path: Path,
) -> None:
    state = capture_random_state()
    expected = draw()
    torch.save(state, tmp_path / 'state.pth')
    restore_random_state(torch.load(tmp_path / 'state.pth', weights_only=True))
    assert draw() == expected


def test_captured_state_does_not_follow_later_draws() -> None:
    state = capture_random_state()
    expected = draw()
    draw()
    restore_random_state(state)
    assert draw() == expected
