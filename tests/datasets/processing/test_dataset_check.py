"""Clips of several sources, checked in several processes."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from projects.sam2.datasets import ClipPaletteDataset
from projects.sam2.datasets.processing.dataset_check import check_sources
from projects.sam2.datasets.processing.statistics import SourceSummary


def check(*configs: dict[str, Any], **settings: Any) -> list[SourceSummary]:  # noqa: ANN401
    return check_sources(
        configs,
        **{
            'sample': None,
            'num_workers': 2,
            'time_limit': 30,
            'advance': lambda done, total: None,  # noqa: ARG005
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

    def die_on_bee(self: ClipPaletteDataset, name: str) -> Any:  # noqa: ANN401
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
