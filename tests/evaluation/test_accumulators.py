"""What is kept of a video while it is predicted: scores, IoUs, masks."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from golden_cases import assert_exact, assert_within
from golden_scores import GoldenScores, discover_scores
from memory_videos import MemoryVideo
from projects.sam2.evaluation import JFAccumulator, boundary_f, region_similarity
from projects.sam2.structures import FrameMasks, VideoResult
from score_cases import predict, predict_truth, record_of, score
from score_files import MaskFolder, read_objects

APPEARANCE = {'type': 'JFAppearanceProtocol'}


from collections.abc import Sequence
from dataclasses import replace

import torch
from mmengine.registry import TASK_UTILS

from loss_cases import make_output
from projects.sam2.evaluation import (
    ClipPromptIoUAccumulator,
    JFRoundsAccumulator,
    MaskletRecorder,
    copy_first_masks,
    score_copy_baseline,
)
from projects.sam2.ops import decode_masks
from projects.sam2.structures import (
    DecoderStep,
    FrameOutput,
    FramePrediction,
    PointLabel,
    PointPrompt,
    PromptRound,
    RoundObserver,
    VideoRecord,
)
from score_cases import plain_j


@dataclass
class VoidVideo(MemoryVideo):
    """The upper half of the frame does not count."""

    def read_masks(self, frame_index: int) -> FrameMasks | None:
        """Ground truth of a frame, half of it void."""
        truth = super().read_masks(frame_index)
        if truth is None:
            return None
        void = np.zeros(self.size, dtype=bool)
        void[: self.size[0] // 2] = True
        return FrameMasks(object_ids=truth.object_ids, masks=truth.masks, void=void)


@pytest.mark.golden
@pytest.mark.parametrize('golden', discover_scores())
def test_equals_the_evaluator_of_sav(golden: GoldenScores, tmp_path: Path) -> None:
    protocol = {'type': 'JFSAVProtocol', 'skip_ends': golden.skip_ends}
    truth, predicted = golden.unpack(tmp_path)
    assert golden.videos
    for video, expected in golden.videos.items():
        by_object = any(path.is_dir() for path in (truth / video).iterdir())
        source = MaskFolder(truth / video, by_object)
        predictions = [
            predict(source, index, read_objects(predicted / video, stem, by_object))
            for index, stem in enumerate(source.stems)
        ]
        scores = score(source, predictions, protocol)
        assert_exact(scores.object_ids, tuple(sorted(map(int, expected))), video)
        for key, values in expected.items():
            index = scores.object_ids.index(int(key))
            actual = 100 * np.array([scores.j[index], scores.f[index]])
            published = np.array([values['J'], values['F']])
            assert_within(actual, published, 1e-9, f'{video}, object {key}')


def test_truth_as_prediction_scores_all() -> None:
    video = MemoryVideo(first_frames=(0, 0))
    scores = score(video, [predict_truth(video, i) for i in range(6)])
    assert scores.j == scores.f == (1.0, 1.0)
    assert scores.objects[0].frames == (1, 2, 3, 4)


def test_frames_are_scored_as_the_pure_functions_score_them() -> None:
    video = MemoryVideo(first_frames=(0,))
    moved = [{1: np.roll(video.masks(i)[0], i, axis=1)} for i in range(6)]
    scores = score(video, [predict(video, i, m) for i, m in enumerate(moved)])
    pairs = [(moved[i][1], video.masks(i)[0]) for i in (1, 2, 3, 4)]
    assert scores.objects[0].frame_j == tuple(region_similarity(*p) for p in pairs)
    assert scores.objects[0].frame_f == tuple(boundary_f(*p) for p in pairs)


def test_object_without_a_prediction_counts_as_empty() -> None:
    video = MemoryVideo(first_frames=(0, 0))
    scores = score(video, [predict(video, i, {1: video.masks(i)[0]}) for i in range(6)])
    assert scores.j == (1.0, 0.0)


def test_object_that_the_truth_lacks_must_stay_empty() -> None:
    video = MemoryVideo(first_frames=(0, 3))
    everywhere = np.ones(video.size, dtype=bool)
    predictions = [predict(video, i, {1: everywhere, 2: everywhere}) for i in range(6)]
    scores = score(video, predictions, {'type': 'JFSAVProtocol'})
    assert scores.objects[1].frame_j[:2] == (0.0, 0.0)
    assert score(video, predictions, APPEARANCE).objects[1].frames == (4, 5)


@pytest.mark.parametrize('handed_on', [(0,), (0, 2), (0, 1, 5), ()])
def test_frames_never_handed_on_count_as_empty(handed_on: tuple[int, ...]) -> None:
    video = MemoryVideo(first_frames=(0,))
    scores = score(video, [predict_truth(video, i) for i in handed_on]).objects[0]
    assert scores.frames == (1, 2, 3, 4)
    assert scores.frame_j == tuple(float(i in handed_on) for i in scores.frames)


def test_sparse_truth_counts_on_annotated_frames_alone() -> None:
    video = MemoryVideo(first_frames=(0, 2), annotated=(0, 2, 5))
    predictions = [predict_truth(video, i) for i in range(6)]
    assert [s.frames for s in score(video, predictions).objects] == [(2,)]
    late = score(video, predictions, APPEARANCE).objects
    assert [(s.object_id, s.frames) for s in late] == [(1, (2, 5)), (2, (5,))]


def test_void_pixels_do_not_count() -> None:
    # Object 1 lies above the middle, object 2 across it and below.
    video = VoidVideo(first_frames=(0, 0))
    wrong = np.logical_not(np.any(video.masks(0), axis=0))
    wrong[video.size[0] // 2 :] = False
    predictions = [
        predict(video, i, {1: wrong, 2: video.masks(i)[1] | wrong}) for i in range(6)
    ]
    assert score(video, predictions).j == (1.0, 1.0)


def test_video_too_short_to_score_has_no_objects() -> None:
    video = MemoryVideo(length=2)
    scores = score(video, [predict_truth(video, i) for i in range(2)])
    assert scores.objects == ()
    assert scores.num_frames == 0


def test_nothing_of_a_video_is_left_to_the_next() -> None:
    accumulator = JFAccumulator()
    first, second = MemoryVideo(first_frames=(0, 0)), MemoryVideo(first_frames=(0,))
    results = [VideoResult(), VideoResult()]
    for video, result in zip((first, second), results, strict=True):
        accumulator.begin(record_of(video))
        for index in range(6):
            accumulator.add(predict_truth(video, index))
        accumulator.finish(result)
    assert [r.scores.object_ids for r in results] == [(1, 2), (1,)]


def test_mask_of_another_size_is_named() -> None:
    video = MemoryVideo(first_frames=(0,))
    small = {1: np.ones((4, 4), dtype=bool)}
    predictions = [predict(video, i, small) for i in range(2)]
    with pytest.raises(ValueError, match=r'squares, frame 1: .*resize the pred'):
        score(video, predictions)


def test_frame_before_any_video_is_refused() -> None:
    with pytest.raises(ValueError, match=r'begin\(\)'):
        JFAccumulator().finish(VideoResult())


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


PROTOCOL = {'type': 'JFSAVProtocol', 'skip_ends': False}
VIDEO = MemoryVideo(first_frames=(0, 0), length=3, size=(24, 40))
RECORD = VideoRecord(metainfo={'source': VIDEO, 'sample_index': 0})


def prediction(frame: int, name: str, shift: int) -> FramePrediction:
    """The truth, moved to the side."""
    truth = VIDEO.read_masks(frame)
    assert truth is not None
    return FramePrediction(
        frame_index=frame,
        object_ids=truth.object_ids,
        masks=np.roll(truth.masks, shift, axis=2),
        truth=truth,
        prompted_ids=truth.object_ids,
        prompt_round=PromptRound(name=name, is_final=False),
    )


def test_iou_of_each_round_is_counted_pixel_by_pixel() -> None:
    accumulator = ClipPromptIoUAccumulator()
    assert isinstance(accumulator, RoundObserver)
    accumulator.begin(RECORD)
    shifts = {'1_click': 5, '3_clicks': 2}
    for name, shift in shifts.items():
        accumulator.add_round(prediction(0, name, shift))
    result = VideoResult()
    accumulator.finish(result)
    assert list(result.rounds) == list(shifts)
    for name, shift in shifts.items():
        masks = VIDEO.masks(0)
        moved = np.roll(masks, shift, axis=2)
        expected = [plain_j(a, b) for a, b in zip(moved, masks, strict=True)]
        assert result.rounds[name] == pytest.approx(expected, abs=1e-12)


def test_frame_without_truth_and_object_without_prompt_do_not_count() -> None:
    accumulator = ClipPromptIoUAccumulator()
    accumulator.begin(RECORD)
    accumulator.add_round(replace(prediction(0, 'box', 1), truth=None))
    accumulator.add_round(replace(prediction(1, 'box', 1), prompted_ids=(2,)))
    result = VideoResult()
    accumulator.finish(result)
    assert [len(ious) for ious in result.rounds.values()] == [1]


def test_each_round_scores_as_it_would_alone() -> None:
    together = JFRoundsAccumulator(protocol=PROTOCOL)
    together.begin(RECORD)
    shifts = {'1_frame': 6, '2_frames': 1}
    for frame in range(3):
        for name, shift in shifts.items():
            together.add_round(prediction(frame, name, shift))
    result = VideoResult()
    together.finish(result)
    for name, shift in shifts.items():
        alone, expected = JFAccumulator(protocol=PROTOCOL), VideoResult()
        alone.begin(RECORD)
        for frame in range(3):
            alone.add(prediction(frame, name, shift))
        alone.finish(expected)
        assert result.rounds[name] == expected.scores
    assert result.rounds['1_frame'] != result.rounds['2_frames']


def test_rounds_before_a_video_are_refused() -> None:
    with pytest.raises(ValueError, match='begin'):
        JFRoundsAccumulator(protocol=PROTOCOL).add_round(prediction(0, '1_frame', 0))


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
