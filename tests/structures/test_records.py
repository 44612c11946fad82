"""Records of videos and prompts refuse what does not belong together."""

import numpy as np
import pytest
import torch

from memory_videos import MemoryVideo
from projects.sam2.structures import (
    FrameMasklets,
    FrameMasks,
    FramePrompt,
    PointPrompt,
    VideoSource,
)


def test_masks_need_one_id_each() -> None:
    masks = np.zeros((2, 4, 5), dtype=bool)
    assert FrameMasks(object_ids=(1, 9), masks=masks).void is None
    with pytest.raises(ValueError, match=r'each of 3 ids, but got masks \(2, 4, 5\)'):
        FrameMasks(object_ids=(1, 2, 3), masks=masks)
    with pytest.raises(ValueError, match=r'got masks \(4, 5\)'):
        FrameMasks(object_ids=(1, 2, 3, 4), masks=masks[0])


def test_source_is_told_by_what_it_can_do() -> None:
    assert isinstance(MemoryVideo(), VideoSource)
    assert not isinstance(object(), VideoSource)


def test_mask_without_its_object_is_refused() -> None:
    code = {'size': [2, 2], 'counts': '4'}
    with pytest.raises(ValueError, match=r'Frame 4: expected one mask for each of 2'):
        FrameMasklets(frame_index=4, object_ids=(1, 2), encoded=(code,))


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
