"""The copy-the-first-mask baseline."""

import numpy as np

from memory_videos import MemoryVideo
from projects.sam2.evaluation import (
    boundary_f,
    copy_first_masks,
    region_similarity,
    score_copy_baseline,
)


def test_each_object_keeps_its_first_mask() -> None:
    video = MemoryVideo(first_frames=(0, 3))
    predictions = list(copy_first_masks(video))
    assert [p.object_ids for p in predictions] == [(1,)] * 3 + [(1, 2)] * 3
    assert [p.prompted_ids for p in predictions if p.prompted_ids] == [(1,), (2,)]
    last = predictions[-1].masks
    assert np.array_equal(last, [video.masks(0)[0], video.masks(3)[1]])


def test_scores_are_those_of_the_first_mask() -> None:
    video = MemoryVideo(first_frames=(0,))
    (scores,) = score_copy_baseline([video])
    pairs = [(video.masks(0)[0], video.masks(i)[0]) for i in (1, 2, 3, 4)]
    assert scores.objects[0].frame_j == tuple(region_similarity(*p) for p in pairs)
    assert scores.objects[0].frame_f == tuple(boundary_f(*p) for p in pairs)


def test_frames_are_not_decoded() -> None:
    video = MemoryVideo(first_frames=(0,))
    score_copy_baseline([video])
    assert not video.reads


def test_annotated_frames_alone_are_read() -> None:
    video = MemoryVideo(first_frames=(2, 4), annotated=(1, 3, 4, 5))
    predictions = list(copy_first_masks(video))
    assert [p.frame_index for p in predictions] == [3, 4, 5]


def test_videos_keep_their_order_and_the_protocol_is_handed_on() -> None:
    videos = [MemoryVideo(name='b', first_frames=(0, 2)), MemoryVideo(name='a')]
    scores = score_copy_baseline(videos, protocol={'type': 'JFAppearanceProtocol'})
    assert [s.video_name for s in scores] == ['b', 'a']
    assert scores[0].object_ids == (1, 2)
    assert scores[0].objects[1].frames == (3, 4, 5)
