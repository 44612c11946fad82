"""Prompts hold what belongs together, and refuse the rest."""

import pytest
import torch

from projects.sam2.structures import FramePrompt, PointPrompt


def _points(num_points: int, value: float = 0.0) -> PointPrompt:
    return PointPrompt(
        coords=torch.full((2, num_points, 2), value),
        labels=torch.full((2, num_points), int(value), dtype=torch.int32),
    )


def test_points_follow_one_another_for_each_object() -> None:
    both = _points(1, 1.0).followed_by(_points(2, 3.0))
    assert both.num_points == 3
    assert both.coords[1, :, 0].tolist() == [1.0, 3.0, 3.0]
    assert both.labels[0].tolist() == [1, 3, 3]


@pytest.mark.parametrize(
    ('coords', 'labels'),
    [((2, 3, 2), (2, 2)), ((2, 3, 3), (2, 3)), ((1, 3, 2), (2, 3))],
)
def test_points_without_their_labels_are_refused(
    coords: tuple[int, ...], labels: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, match=r'Expected coords \(O, P, 2\)'):
        PointPrompt(coords=torch.zeros(coords), labels=torch.zeros(labels))


def test_frame_is_prompted_with_points_or_with_a_mask() -> None:
    mask = torch.zeros(1, 1, 4, 4, dtype=torch.bool)
    assert FramePrompt(mask=mask).points is None
    with pytest.raises(ValueError, match='give exactly one'):
        FramePrompt()
    with pytest.raises(ValueError, match='give exactly one'):
        FramePrompt(points=_points(1), mask=mask)
