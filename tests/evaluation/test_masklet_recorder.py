"""Masks that are kept for pictures."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from mmengine.registry import TASK_UTILS

from loss_cases import make_output
from memory_videos import MemoryVideo
from projects.sam2.evaluation import MaskletRecorder
from projects.sam2.ops import decode_masks
from projects.sam2.structures import (
    DecoderStep,
    FrameOutput,
    FramePrediction,
    PointLabel,
    PointPrompt,
    VideoResult,
)
from score_cases import predict_truth, record_of


def recorded(
    recorder: MaskletRecorder,
    video: MemoryVideo,
    predictions: Sequence[FramePrediction],
    sample_index: int = 0,
) -> VideoResult:
    recorder.begin(record_of(video, sample_index))
    for prediction in predictions:
        recorder.add(prediction)
    result = VideoResult()
    recorder.finish(result)
    return result


def prompted(video: MemoryVideo, frame_index: int, *ids: int) -> FramePrediction:
    return replace(predict_truth(video, frame_index), prompted_ids=ids)


def decoded(points: PointPrompt | None, num_objects: int) -> FrameOutput:
    """What a tracker that saw the frame at 32 x 64 made of points."""
    nothing = torch.zeros(num_objects, 1)
    step = DecoderStep(
        candidate_logits=torch.zeros(num_objects, 1, 8, 16),
        candidate_ious=nothing,
        mask_logits=torch.zeros(num_objects, 1, 8, 16),
        object_pointer=nothing,
        object_score_logits=nothing,
        points=points,
    )
    return make_output(0, [step])


def test_masks_come_back_as_they_were() -> None:
    video = MemoryVideo(first_frames=(0, 0))
    result = recorded(
        MaskletRecorder(), video, [predict_truth(video, i) for i in (0, 1)]
    )
    frames = result.masklets.frames
    assert [frame.frame_index for frame in frames] == [0, 1]
    assert frames[1].object_ids == (1, 2)
    codes = [dict(code) for code in frames[1].encoded]
    assert np.array_equal(decode_masks(codes), video.masks(1))


@pytest.mark.parametrize(('sample_index', 'kept'), [(0, True), (1, True), (2, False)])
def test_first_videos_of_the_dataset_are_kept(sample_index: int, kept: bool) -> None:
    video = MemoryVideo()
    recorder = TASK_UTILS.build({'type': 'MaskletRecorder', 'max_videos': 2})
    result = recorded(recorder, video, [predict_truth(video, 0)], sample_index)
    assert ('masklets' in result) is kept


def test_long_video_is_thinned_but_for_prompted_frames() -> None:
    video = MemoryVideo(length=20)
    recorder = MaskletRecorder(max_frames=5)
    predictions = [predict_truth(video, i) for i in range(20)]
    predictions[7] = prompted(video, 7, 2)
    result = recorded(recorder, video, predictions)
    indices = [frame.frame_index for frame in result.masklets.frames]
    assert indices == [0, 4, 7, 8, 12, 16]


def test_sparse_annotated_frames_are_kept() -> None:
    video = MemoryVideo(length=20, annotated=(3, 9))
    result = recorded(
        MaskletRecorder(max_frames=5),
        video,
        [predict_truth(video, i) for i in range(20)],
    )
    indices = [frame.frame_index for frame in result.masklets.frames]
    assert indices == [0, 3, 4, 8, 9, 12, 16]


def test_prompt_points_lie_in_the_pixels_of_the_file() -> None:
    video = MemoryVideo(first_frames=(0, 0), size=(64, 64))
    coords = [[[32.0, 16.0], [0.0, 0.0]], [[8.0, 8.0], [16.0, 24.0]]]
    labels = [
        [PointLabel.POSITIVE, PointLabel.PADDING],
        [PointLabel.BOX_TOP_LEFT, PointLabel.BOX_BOTTOM_RIGHT],
    ]
    points = PointPrompt(coords=torch.tensor(coords), labels=torch.tensor(labels))
    prediction = replace(prompted(video, 0, 1, 2), outputs=(decoded(points, 2),))
    marks = recorded(MaskletRecorder(), video, [prediction]).masklets.frames[0].marks
    assert [(mark.object_id, mark.x, mark.y, mark.label) for mark in marks] == [
        (1, 32.0, 32.0, PointLabel.POSITIVE),
        (2, 8.0, 16.0, PointLabel.BOX_TOP_LEFT),
        (2, 16.0, 48.0, PointLabel.BOX_BOTTOM_RIGHT),
    ]


def test_mask_prompts_and_tracked_objects_leave_no_points() -> None:
    video = MemoryVideo(first_frames=(0, 0))
    outputs = (decoded(None, 1), decoded(None, 1))
    prediction = replace(prompted(video, 0, 2), outputs=outputs)
    (frame,) = recorded(MaskletRecorder(), video, [prediction]).masklets.frames
    assert frame.marks == ()
    assert frame.prompted_ids == (2,)


@pytest.mark.parametrize('setting', [{'max_videos': -1}, {'max_frames': 0}])
def test_senseless_limits_are_refused(setting: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r'max_videos.*max_frames'):
        MaskletRecorder(**setting)
