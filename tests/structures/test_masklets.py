"""Packed masks hold one mask for each object."""

import pytest

from projects.sam2.structures import FrameMasklets


def test_mask_without_its_object_is_refused() -> None:
    code = {'size': [2, 2], 'counts': '4'}
    with pytest.raises(ValueError, match=r'Frame 4: expected one mask for each of 2'):
        FrameMasklets(frame_index=4, object_ids=(1, 2), encoded=(code,))
