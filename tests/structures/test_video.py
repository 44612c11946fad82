"""Ground truth and sources of videos."""

import numpy as np
import pytest

from memory_videos import MemoryVideo
from projects.sam2.structures import FrameMasks, VideoSource


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
