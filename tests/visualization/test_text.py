"""Text and plates in pictures."""

import numpy as np
import pytest

from projects.sam2.visualization import object_color
from projects.sam2.visualization.drawing import (
    BLACK,
    WHITE,
    Picture,
    draw_labels,
    draw_text,
    text_size,
)


@pytest.fixture
def image() -> Picture:
    return np.full((120, 200, 3), 90, dtype=np.uint8)


def box(top: int, left: int, height: int, width: int) -> np.ndarray:
    mask = np.zeros((120, 200), dtype=bool)
    mask[top : top + height, left : left + width] = True
    return mask


def changed(image: Picture) -> np.ndarray:
    return np.asarray((image != 90).any(axis=2))


def test_text_stays_in_the_space_it_asks_for(image: Picture) -> None:
    draw_text(image, 'frame 12', (20, 30), height=15, color=WHITE)
    height, width = text_size('frame 12', 15)
    rows, columns = np.nonzero(changed(image))
    assert rows.min() >= 30
    assert rows.max() < 30 + height
    assert columns.min() >= 20
    assert columns.max() < 20 + width + 2


def test_longer_text_is_wider_and_larger_letters_are_higher() -> None:
    assert text_size('12', 15)[1] < text_size('123', 15)[1]
    assert text_size('12', 15)[0] < text_size('12', 20)[0]


def test_text_at_the_edge_is_cut_off(image: Picture) -> None:
    draw_text(image, 'a long line of text', (180, 110), height=15)
    assert changed(image).any()


def test_plate_lies_in_a_large_mask(image: Picture) -> None:
    mask = box(30, 60, 60, 90)
    draw_labels(image, [mask], [3])
    assert changed(image).any()
    assert not (changed(image) & ~mask).any()
    present = {tuple(pixel) for pixel in image.reshape(-1, 3)}
    assert {BLACK, object_color(3)} <= present


def test_plate_leaves_a_small_mask_visible(image: Picture) -> None:
    mask = box(60, 100, 4, 4)
    draw_labels(image, [mask], [3])
    assert changed(image).any()
    assert not (changed(image) & mask).any()


@pytest.mark.parametrize('corner', [(0, 0), (0, 197), (117, 0), (117, 197)])
def test_plate_of_a_mask_in_a_corner_is_whole(
    image: Picture, corner: tuple[int, int]
) -> None:
    middle = image.copy()
    draw_labels(middle, [box(60, 100, 3, 3)], [8])
    draw_labels(image, [box(*corner, 3, 3)], [8])
    assert changed(image).sum() == changed(middle).sum()


def test_plates_make_way_for_each_other(image: Picture) -> None:
    alone = image.copy()
    same = box(50, 80, 30, 40)
    draw_labels(alone, [same], [1])
    draw_labels(image, [same, same], [1, 2])
    assert changed(image).sum() == 2 * changed(alone).sum()


def test_empty_mask_has_no_plate(image: Picture) -> None:
    draw_labels(image, [box(0, 0, 0, 0)], [1])
    assert not changed(image).any()
