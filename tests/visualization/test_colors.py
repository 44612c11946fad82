"""Colours that tell objects apart."""

import itertools
import math

import pytest

from projects.sam2.visualization import object_color


def test_sixty_objects_have_sixty_colours() -> None:
    colors = {object_color(object_id) for object_id in range(1, 61)}
    assert len(colors) == 60


def test_neighbouring_ids_look_different() -> None:
    for one, other in itertools.pairwise(range(1, 256)):
        assert math.dist(object_color(one), object_color(other)) > 60


def test_the_first_dozen_are_far_apart() -> None:
    for one, other in itertools.combinations(range(1, 13), 2):
        assert math.dist(object_color(one), object_color(other)) > 60


@pytest.mark.parametrize('object_id', [0, 1, 12, 13, 255, 100_000])
def test_colours_are_bright_enough_for_dark_frames(object_id: int) -> None:
    color = object_color(object_id)
    assert max(color) >= 120
    assert all(0 <= channel <= 255 for channel in color)
