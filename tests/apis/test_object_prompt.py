"""What is said about an object is checked where it is said."""

from typing import Any

import numpy as np
import pytest

from projects.sam2.apis import ObjectPrompt
from projects.sam2.structures import PointLabel

MASK = np.ones((4, 4), dtype=bool)


@pytest.mark.parametrize(
    ('said', 'message'),
    [
        ({}, 'needs points, a box or both'),
        ({'mask': MASK, 'box': (0, 0, 2, 2)}, 'a mask in place of them'),
        ({'points': [(1, 1)], 'labels': [1, 0]}, '1 points and 2 labels'),
        ({'points': [(1, 1)], 'object_id': 0}, 'objects count from 1'),
        ({'points': [(1, 1)], 'frame_index': -1}, 'frame -1'),
        ({'points': [(1, 1)], 'object_id': 'cat'}, r"object_id is 'cat' \(str\)"),
        ({'points': [(1, 1)], 'frame_index': 1.5}, r'frame_index is 1\.5 \(float\)'),
    ],
)
def test_malformed_prompts_are_refused(said: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ObjectPrompt(**said)


def test_points_are_on_the_object_unless_it_is_said() -> None:
    labels = ObjectPrompt(points=[(1, 2), (3, 4)]).point_labels
    assert labels is not None
    assert labels.tolist() == [1, 1]
    box = ObjectPrompt(box=(1, 2, 3, 4))
    assert box.point_labels is None
    assert box.point_coords is None


def test_numbers_of_numpy_are_plain_ones() -> None:
    prompt = ObjectPrompt(
        object_id=np.uint8(4),  # type: ignore[arg-type]
        points=np.array([[5, 6], [7, 8]]),  # type: ignore[arg-type]
        labels=np.array([1, 0]),  # type: ignore[arg-type]
    )
    assert type(prompt.object_id) is int
    assert prompt.point_labels is not None
    assert prompt.point_labels.tolist() == [1, 0]
    assert [(mark.x, mark.label) for mark in prompt.marks()] == [(5, 1), (7, 0)]


def test_marks_are_the_corners_and_then_the_points() -> None:
    prompt = ObjectPrompt(object_id=4, box=(1, 2, 30, 40), points=[(5, 6)], labels=[0])
    marks = [(m.object_id, m.x, m.y, m.label) for m in prompt.marks()]
    assert marks == [
        (4, 1, 2, PointLabel.BOX_TOP_LEFT),
        (4, 30, 40, PointLabel.BOX_BOTTOM_RIGHT),
        (4, 5, 6, PointLabel.NEGATIVE),
    ]
    assert not list(ObjectPrompt(mask=MASK).marks())
