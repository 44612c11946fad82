"""The literal way and the made scenes: what the oracle itself is held to."""

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from score_cases import plain_contour, plain_f, plain_j
from tool_modules import load_tool


@pytest.fixture(scope='module')
def tool() -> ModuleType:
    return load_tool('benchmarks/plain_jf')


@pytest.mark.parametrize('with_void', [False, True])
def test_literal_scores_equal_counting_pixel_by_pixel(
    tool: ModuleType,
    with_void: bool,
) -> None:
    rng = np.random.default_rng(0)
    for _ in range(5):
        pred, truth, void = rng.random((3, 11, 140)) < 0.02
        given = void if with_void else None
        assert tool.literal_f(pred, truth, given) == plain_f(pred, truth, given)
        assert tool.literal_j(pred, truth, given) == plain_j(pred, truth, given)
        found = list(zip(*np.nonzero(tool.literal_contour(pred)), strict=True))
        assert found == plain_contour(pred)


def test_literal_way_knows_empty_masks(tool: ModuleType) -> None:
    empty, full = np.zeros((6, 7), bool), np.ones((6, 7), bool)
    some = np.eye(6, 7, dtype=bool)
    assert tool.literal_f(empty, some) == tool.literal_f(some, empty) == 0.0
    assert tool.literal_f(empty, full) == tool.literal_j(empty, empty) == 1.0


def test_disk_contains_the_pixels_within_the_radius(tool: ModuleType) -> None:
    disk = tool.literal_disk(5)
    y, x = np.mgrid[-5:6, -5:6]
    np.testing.assert_array_equal(disk, np.hypot(y, x) <= 5)


def test_scene_shows_every_object_and_a_prediction_that_is_a_little_off(
    tool: ModuleType,
) -> None:
    scene = tool.make_scene(240, 427, 5)
    again = tool.make_scene(240, 427, 5)
    np.testing.assert_array_equal(scene.truth, again.truth)
    assert np.unique(scene.truth).tolist() == [0, *scene.object_ids]
    scores = np.array(tool.literal_scores(scene.pred, scene.truth, scene.object_ids))
    assert (scores.mean(axis=0) > 0.7).all()
    assert (scores < 1).all(axis=1).any()


def test_folder_is_scored_frame_by_frame(tool: ModuleType, tmp_path: Path) -> None:
    scenes = [tool.make_scene(60, 90, 2, seed) for seed in range(2)]
    for name in ('pred', 'truth'):
        (tmp_path / name).mkdir()
        for index, scene in enumerate(scenes):
            Image.fromarray(getattr(scene, name)).save(tmp_path / name / f'{index}.png')
    scores = tool.literal_folder_scores(tmp_path / 'pred', tmp_path / 'truth', [1, 2])
    assert scores == [tool.literal_scores(s.pred, s.truth, [1, 2]) for s in scenes]
