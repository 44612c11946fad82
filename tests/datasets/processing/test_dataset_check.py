"""Clips of several sources, checked in several processes."""

import contextlib
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mmengine.registry import DATASETS
from numpy.typing import NDArray

from projects.sam2.datasets import ClipDataError, ClipPaletteDataset
from projects.sam2.datasets.processing.checking import SourceSummary, check_dataset


def check(*configs: dict[str, Any], **settings: Any) -> list[SourceSummary]:
    return check_dataset(
        {'type': 'ConcatDataset', 'datasets': list(configs)},
        **{
            'sample': None,
            'num_workers': 2,
            'time_limit': 30,
            'advance': lambda done, total: None,
            **settings,
        },
    )


def palette(root: Path, **settings: str) -> dict[str, Any]:
    return {'type': 'ClipPaletteDataset', 'data_root': str(root), **settings}


def test_sources_are_kept_apart(
    root: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = tmp_path_factory.mktemp('other')
    steps: list[tuple[int, int]] = []
    good, gone, made = check(
        palette(root),
        palette(other),
        {'type': 'ClipSyntheticDataset', 'num_clips': 1},
        advance=lambda done, total: steps.append((done, total)),
    )
    assert (good.num_clips, good.num_decoded, good.num_bad) == (3, 3, 0)
    assert (good.num_objects, good.num_frames) == (6, 18)
    assert gone.num_clips == 0
    assert 'must hold a folder JPEGImages' in gone.problems[0].problem
    assert (made.kind, made.num_decoded, made.num_bad) == ('ClipSyntheticDataset', 1, 0)
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_first_generated_clip_stands_for_all() -> None:
    steps: list[tuple[int, int]] = []
    (found,) = check(
        {'type': 'ClipSyntheticDataset', 'num_clips': 500},
        advance=lambda done, total: steps.append((done, total)),
    )
    assert (found.num_clips, found.num_decoded, found.is_generated) == (500, 1, True)
    assert steps == [(1, 1)]


def test_sample_opens_all_and_decodes_some(root: Path) -> None:
    (found,) = check(palette(root), sample=2)
    assert (found.num_opened, found.num_decoded) == (3, 2)
    assert check(palette(root), sample=2) == [found]


def test_clip_that_is_listed_twice_is_a_problem(root: Path) -> None:
    (root / 'list.txt').write_text('bee\nant\nbee\n')
    (found,) = check(palette(root, file_list='list.txt'))
    assert [(each.clip, each.problem) for each in found.problems] == [
        ('bee', 'is listed 2 times')
    ]
    assert found.num_clips == 2


def test_reader_that_dies_costs_its_clip_alone(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole: Callable[..., Any] = ClipPaletteDataset.open_video

    def die_on_bee(self: ClipPaletteDataset, name: str) -> Any:
        return os._exit(9) if name == 'bee' else whole(self, name)

    monkeypatch.setattr(ClipPaletteDataset, 'open_video', die_on_bee)
    (found,) = check(palette(root))
    (problem,) = found.problems
    assert problem.clip == 'bee'
    assert problem.problem == 'cannot be checked: its process ended with code 9'
    assert found.num_decoded == 2


def test_file_list_that_is_missing_is_a_problem_of_its_source(root: Path) -> None:
    (found,) = check(palette(root, file_list='none.txt'))
    assert 'none.txt is missing' in found.problems[0].problem
    assert (found.num_clips, found.num_bad) == (0, 1)


def appearing(first: int, last: int) -> Callable[[int], NDArray[np.uint8]]:
    """Labels of an object that is seen from one frame to another."""

    def labels(time: int) -> NDArray[np.uint8]:
        return np.full((24, 32), first <= time <= last, np.uint8)

    return labels


def write_odd_clips(root: Path, write: Callable[..., None]) -> None:
    """Clips of which training can use some, however they are drawn."""
    write(
        root, 'first', labels=lambda time: appearing(0, 9)(time) if not time else None
    )
    write(root, 'leaves', labels=appearing(0, 0))
    write(root, 'late', labels=appearing(5, 5))
    write(root, 'short', num_frames=2)
    write(root, 'brief', num_frames=4)
    write(root, 'empty', labels=appearing(9, 9))
    write(root, 'tiny', labels=lambda time: np.eye(24, 32, 31, np.uint8) * (time >= 0))


def test_clips_are_bad_exactly_if_training_cannot_use_them(
    root: Path, write_davis_clip: Callable[..., None], pipeline: list[dict[str, Any]]
) -> None:
    write_odd_clips(root, write_davis_clip)
    pipeline[0] |= {'reverse_probability': 0.5, 'later_num_frames': ((4, 5),)}
    pipeline[4] = {'type': 'ClipResize', 'size': (8, 8)}
    config = palette(root) | {'pipeline': pipeline, 'max_bad_share': 1.0}

    def unusable(num_epochs: int) -> set[str]:
        """Clips of which training makes no sample in its last epoch."""
        dataset = DATASETS.build(config)
        names = dataset.list_videos()
        bad = {*names}
        for index, name in enumerate(names):
            with contextlib.suppress(ClipDataError):
                if dataset[num_epochs - 1, index].video_name == name:
                    bad.remove(name)
        return bad

    for num_epochs, expected in (
        (4, {'short', 'empty', 'tiny'}),
        (5, {'short', 'empty', 'tiny', 'brief'}),
    ):
        (found,) = check(config, num_epochs=num_epochs)
        assert {each.clip for each in found.problems} == expected
        assert unusable(num_epochs) == expected
        assert len(found.problems) == len(expected)
    (brief,) = [each.problem for each in found.problems if each.clip == 'brief']
    assert brief == (
        'training cannot use it after 4 epochs: brief: needs 5 frames, has 4; lower '
        'num_frames or drop the video'
    )


def test_views_are_drawn_as_training_draws_them(
    root: Path, pipeline: list[dict[str, Any]]
) -> None:
    def view(stride: int) -> dict[str, Any]:
        steps = [dict(step) for step in pipeline]
        inner = palette(root, file_list='list.txt')
        kind = 'ClipStrideDataset'
        return {'type': kind, 'stride': stride, 'dataset': inner, 'pipeline': steps}

    (root / 'list.txt').write_text('ant\n')
    source, fits, too_wide = check(view(2), view(3))
    assert (source.kind, source.num_decoded) == ('ClipPaletteDataset', 1)
    assert (fits.kind, fits.num_opened, fits.num_decoded) == ('ClipStrideDataset', 1, 0)
    assert not source.problems + fits.problems
    (problem,) = too_wide.problems
    assert 'needs 3 frames, has 2' in problem.problem
    (root / 'list.txt').unlink()
    (missing,) = check(view(2))
    assert 'list.txt is missing' in missing.problems[0].problem


def test_problem_of_the_files_is_not_told_again_by_the_draw(
    root: Path, pipeline: list[dict[str, Any]]
) -> None:
    # Each clip of three frames has one of these; the others show its objects.
    for time in (2, 3):
        (root / f'JPEGImages/bee/0000{time}.jpg').write_bytes(b'nothing')
    (found,) = check(palette(root) | {'pipeline': pipeline})
    (problem,) = found.problems
    assert problem.clip == 'bee'
    assert problem.problem.endswith('(and on 1 more frames)')
    assert found.num_objects == 6


@pytest.mark.parametrize(
    ('options', 'says'),
    [({'sample': -1}, '-1 clips are no sample'), ({'time_limit': math.nan}, 'nan s')],
)
def test_sample_and_time_limit_that_are_none_are_refused(
    root: Path, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        check(palette(root), **options)
