"""Scores of whole videos, mask by mask."""

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
            found = 100 * np.array([scores.j[index], scores.f[index]])
            wanted = np.array([values['J'], values['F']])
            assert_within(found, wanted, 1e-9, f'{video}, object {key}')


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
    with pytest.raises(ValueError, match=r'squares, frame 1: .*size of the file'):
        score(video, predictions)


def test_frame_before_any_video_is_refused() -> None:
    with pytest.raises(ValueError, match=r'begin\(\)'):
        JFAccumulator().finish(VideoResult())
