"""Folders of predicted masks scored against the ground truth."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_folders import square_maps, write_maps, write_objects, write_png
from golden_cases import assert_within
from golden_scores import GoldenScores, discover_scores
from projects.sam2.apis.folder_scores import FolderScores, ScoringTask, score_folder
from projects.sam2.datasets.io.errors import ClipDataError
from projects.sam2.evaluation import PROTOCOLS, score_labels, summarise

Write = Callable[[Path, dict[str, Any]], None]


@pytest.fixture
def task(tmp_path: Path) -> ScoringTask:
    """Two videos; the predictions are the truth, one pixel lower."""
    for name in ('a', 'b'):
        frames = square_maps()
        write_maps(tmp_path / 'truth' / name, frames)
        moved = {stem: np.roll(labels, 1, axis=0) for stem, labels in frames.items()}
        write_maps(tmp_path / 'pred' / name, moved)
    return ScoringTask(
        pred=tmp_path / 'pred', truth=tmp_path / 'truth', protocol=PROTOCOLS['davis']
    )


@pytest.mark.golden
@pytest.mark.parametrize('golden', discover_scores())
def test_equals_the_evaluator_of_sav(golden: GoldenScores, tmp_path: Path) -> None:
    truth, pred = golden.unpack(tmp_path)
    protocol = PROTOCOLS['sav' if golden.skip_ends else 'sav-all-frames']
    scores = score_folder(ScoringTask(pred=pred, truth=truth, protocol=protocol))
    assert {video.video_name for video in scores.videos} == set(golden.videos)
    for video in scores.videos:
        expected = golden.videos[video.video_name]
        assert video.object_ids == tuple(sorted(map(int, expected)))
        for number, values in zip(
            sorted(expected, key=int), video.objects, strict=True
        ):
            found = 100 * np.array([values.j, values.f])
            wanted = np.array([expected[number]['J'], expected[number]['F']])
            assert_within(found, wanted, 1e-9, f'{video.video_name}, {number}')


def test_frames_are_scored_as_the_pure_function_scores_them(task: ScoringTask) -> None:
    scores = score_folder(task)
    assert scores.is_complete
    frames = list(square_maps().values())
    expected = [score_labels(np.roll(f, 1, 0), f, [1, 2]) for f in frames[1:-1]]
    for video in scores.videos:
        for index, found in enumerate(video.objects):
            assert found.frames == (1, 2, 3)
            assert found.frame_j == tuple(frame.j[index] for frame in expected)
            assert found.frame_f == tuple(frame.f[index] for frame in expected)


@pytest.mark.parametrize('truth_kind', [write_maps, write_objects])
@pytest.mark.parametrize('pred_kind', [write_maps, write_objects])
def test_label_images_and_folders_of_objects_score_alike(
    task: ScoringTask, tmp_path: Path, truth_kind: Write, pred_kind: Write
) -> None:
    frames = square_maps()
    truth_kind(tmp_path / 'truth 2' / 'a', frames)
    moved = {stem: np.roll(labels, 1, axis=0) for stem, labels in frames.items()}
    pred_kind(tmp_path / 'pred 2' / 'a', moved)
    other = ScoringTask(
        pred=tmp_path / 'pred 2', truth=tmp_path / 'truth 2', protocol=task.protocol
    )
    found = score_folder(other)
    assert found.is_complete
    assert found.videos[0] == score_folder(task).videos[0]


@pytest.mark.parametrize('zero_side', ['truth', 'pred'])
def test_object_0_is_not_compared_with_a_background(
    tmp_path: Path, zero_side: str
) -> None:
    for side in ('truth', 'pred'):
        write = write_objects if side == zero_side else write_maps
        write(tmp_path / side / 'a', square_maps())
    folder = tmp_path / zero_side / 'a'
    (folder / '001').rename(folder / '000')
    task = ScoringTask(
        pred=tmp_path / 'pred',
        truth=tmp_path / 'truth',
        protocol={'type': 'JFDavisProtocol'},
    )
    with pytest.raises(ClipDataError, match='object 0, which no label image can hold'):
        score_folder(task)


def test_several_processes_give_the_same_scores(task: ScoringTask) -> None:
    progress: list[tuple[int, int]] = []
    alone = score_folder(task)
    several = score_folder(
        task, num_workers=2, advance=lambda done, total: progress.append((done, total))
    )
    assert several == alone
    assert progress == [(0, 2), (1, 2), (2, 2)]


def break_frame(task: ScoringTask) -> None:
    (task.pred / 'a' / '00002.png').unlink()


def break_video(task: ScoringTask) -> None:
    for path in (task.pred / 'b').iterdir():
        path.unlink()
    (task.pred / 'b').rmdir()


def add_video(task: ScoringTask) -> None:
    write_maps(task.pred / 'c', square_maps())


def add_object(task: ScoringTask) -> None:
    write_maps(task.pred / 'a', square_maps(objects=3))


def drop_object(task: ScoringTask) -> None:
    write_maps(task.pred / 'a', square_maps(objects=1))


def gaps_of(scores: FolderScores) -> dict[str, Any]:
    """All missing and extra predictions."""
    gaps = {video.video_name: video.gaps for video in scores.videos}
    found = {
        'videos': scores.missing_videos,
        'more videos': scores.extra_videos,
        'frames': gaps['a'].missing_frames,
        'objects': gaps['a'].missing_objects,
        'more objects': gaps['a'].extra_objects,
    }
    return {key: value for key, value in found.items() if value}


@pytest.mark.parametrize(
    ('change', 'expected'),
    [
        (break_frame, {'frames': ('00002',)}),
        (break_video, {'videos': ('b',)}),
        (add_video, {'more videos': ('c',)}),
        (add_object, {'more objects': (3,)}),
        (drop_object, {'objects': (2,)}),
    ],
)
def test_missing_and_extra_predictions_are_reported(
    task: ScoringTask,
    change: Callable[[ScoringTask], None],
    expected: dict[str, Any],
) -> None:
    assert gaps_of(score_folder(task)) == {}
    change(task)
    scores = score_folder(task)
    assert gaps_of(scores) == expected
    assert not scores.is_complete


def test_missing_predictions_count_as_empty(task: ScoringTask) -> None:
    break_frame(task)
    break_video(task)
    first, second = score_folder(task).videos
    for scores in first.objects:
        assert scores.frame_j[1] == scores.frame_f[1] == 0.0
        assert scores.frame_j[0] > 0
    assert set(second.j) == set(second.f) == {0.0}


def test_missing_masks_of_single_objects_are_reported(tmp_path: Path) -> None:
    for side in ('truth', 'pred'):
        write_objects(tmp_path / side / 'a', square_maps())
    (tmp_path / 'pred' / 'a' / '002' / '00003.png').unlink()
    task = ScoringTask(
        pred=tmp_path / 'pred', truth=tmp_path / 'truth', protocol=PROTOCOLS['davis']
    )
    (video,) = score_folder(task).videos
    assert video.gaps.missing_frames == ('00003 of 2',)
    assert video.objects[1].frame_j == (1.0, 1.0, 0.0)


def test_sparse_truth_is_scored_on_its_frames_alone(task: ScoringTask) -> None:
    for index in (1, 3):
        (task.truth / 'a' / f'{index:05}.png').unlink()
    scores = score_folder(task, names=['a'])
    assert scores.videos[0].num_frames == 1
    assert scores.videos[0].gaps.extra_objects == ()
    assert scores.extra_videos == ('b',)


def test_object_that_is_255_is_scored_where_values_are_two(tmp_path: Path) -> None:
    frames = square_maps(objects=1)
    write_maps(tmp_path / 'pred' / 'a', frames)
    write_maps(tmp_path / 'truth' / 'a', {k: v * 255 for k, v in frames.items()})
    task = ScoringTask(
        pred=tmp_path / 'pred',
        truth=tmp_path / 'truth',
        protocol=PROTOCOLS['davis'],
        binary=True,
    )
    assert summarise(score_folder(task).videos).j_and_f == 100.0


@pytest.mark.parametrize('num_workers', [1, 2])
def test_prediction_of_another_size_is_named(
    task: ScoringTask, num_workers: int
) -> None:
    write_png(task.pred / 'b' / '00001.png', np.zeros((4, 5), np.uint8))
    with pytest.raises(ClipDataError, match=r'b, frame 00001: .*resize the prediction'):
        score_folder(task, num_workers=num_workers)


@pytest.mark.parametrize('side', ['truth', 'pred'])
def test_masks_of_0_and_255_are_refused_unless_they_are_binary(
    task: ScoringTask, tmp_path: Path, side: str
) -> None:
    frames = {
        stem: (labels == 1) * np.uint8(255) for stem, labels in square_maps().items()
    }
    write_maps(tmp_path / side / 'b', frames)
    match = rf'{side}/b: all labelled pixels are 255, which is void; give --binary'
    with pytest.raises(ClipDataError, match=match):
        score_folder(task)
    frames['00004'][0, 0] = 1  # void beside an object
    write_maps(tmp_path / side / 'b', frames)
    score_folder(task)
