"""Masks of a video are tracked from those that are given, each object as if alone."""

from collections.abc import Iterable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from memory_videos import MemoryVideo
from projects.sam2.apis import SAM2VideoPredictor
from projects.sam2.apis.vos import GivenMasks, SourceReader, VideoSegmenter
from projects.sam2.structures import FrameMasks
from toy_videos import refuse_archives, toy_model

LATE = MemoryVideo(first_frames=(1, 3), length=6)


@pytest.fixture(scope='module')
def predictor() -> SAM2VideoPredictor:
    """The small predictor; it judges all objects present."""
    model = toy_model()
    with torch.no_grad():
        model.mask_decoder.object_score_head.layers[-1].bias += 10
    return SAM2VideoPredictor(model, memory_dtype=torch.float32)


def _segment(
    predictor: SAM2VideoPredictor,
    video: MemoryVideo,
    given: GivenMasks = GivenMasks.FIRST_SEEN,
    threshold: float = 0.0,
) -> list[FrameMasks]:
    beats: list[int] = []
    segmenter = VideoSegmenter(
        predictor=predictor,
        given=given,
        score_threshold=threshold,
        heartbeat=lambda: beats.append(1),
    )
    frames = list(segmenter.segment(video))
    assert len(beats) >= sum(bool(frame.object_ids) for frame in frames)
    return frames


def _by_hand(
    predictor: SAM2VideoPredictor, video: MemoryVideo, number: int, frames: list[int]
) -> dict[int, NDArray[np.bool_]]:
    """One object alone through the public calls, prompted on some frames."""
    state = predictor.init_state([video.read_frame(i) for i in range(video.length)])
    for frame in frames:
        mask = video.masks(frame)[number - 1]
        predictor.add_new_mask(state, frame, number, mask)
    shown = predictor.propagate_in_video(state, frames[0])
    return {one.frame_index: (one.mask_logits[0, 0] > 0).cpu().numpy() for one in shown}


def _same(
    ours: Iterable[FrameMasks], alone: dict[int, NDArray[np.bool_]], number: int
) -> bool:
    for index, frame in enumerate(ours):
        if index in alone:
            mine = frame.masks[frame.object_ids.index(number)]
            if (mine != alone[index]).mean() > 1e-3:
                return False
    return True


def test_object_is_tracked_from_its_first_mask_as_if_alone(
    predictor: SAM2VideoPredictor,
) -> None:
    found = _segment(predictor, LATE)
    assert [frame.object_ids for frame in found] == [
        *[(), (1,), (1,)],
        *[(1, 2)] * 3,
    ]
    assert found[0].masks.shape == (0, *LATE.size)
    for number, first in ((1, 1), (2, 3)):
        alone = _by_hand(predictor, LATE, number, [first])
        assert list(alone) == list(range(first, 6))
        assert _same(found, alone, number)


def test_objects_that_come_later_may_be_left_out(
    predictor: SAM2VideoPredictor,
) -> None:
    found = _segment(predictor, LATE, GivenMasks.FIRST_FRAME)
    assert [frame.object_ids for frame in found] == [(), *[(1,)] * 5]
    assert _same(found, _by_hand(predictor, LATE, 1, [1]), 1)


def test_all_masks_are_prompts_where_asked_for(predictor: SAM2VideoPredictor) -> None:
    video = MemoryVideo(first_frames=(1, 3), length=6, annotated=(0, 1, 3, 5))
    found = _segment(predictor, video, GivenMasks.ALL)
    assert _same(found, _by_hand(predictor, video, 1, [1, 3, 5]), 1)
    assert _same(found, _by_hand(predictor, video, 2, [3, 5]), 2)
    once = _segment(predictor, video)
    assert any((a.masks != b.masks).any() for a, b in zip(found, once, strict=True))


def test_higher_threshold_gives_smaller_masks(predictor: SAM2VideoPredictor) -> None:
    areas = [
        sum(frame.masks.sum() for frame in _segment(predictor, LATE, threshold=limit))
        for limit in (-0.5, 0.0, 0.5)
    ]
    assert areas[0] > areas[1] > areas[2]


def test_what_is_passed_leaves_nothing_on_disk(
    predictor: SAM2VideoPredictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_archives(monkeypatch)
    assert len(_segment(predictor, MemoryVideo(length=20))) == 20


def test_video_without_a_mask_is_refused(predictor: SAM2VideoPredictor) -> None:
    empty = MemoryVideo(first_frames=(9,), length=3)
    with pytest.raises(ValueError, match='squares: no mask shows an object'):
        _segment(predictor, empty)


def test_frame_of_another_size_is_named() -> None:
    video = MemoryVideo(length=2)
    reader = SourceReader(video)
    assert (reader.num_frames, reader.size) == (2, video.size)
    video.size = (40, 80)
    with pytest.raises(ValueError, match=r'squares, frame 1, is \(40, 80\)'):
        reader.read(1)
