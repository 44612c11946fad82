"""Pictures drawn while a run validates."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mmengine.registry import HOOKS

from memory_videos import MemoryVideo, true_masklets
from projects.sam2.engine.hooks import ClipVisualizationHook
from projects.sam2.structures import Masklets, VideoRecord, VideoResult, VideoSource
from score_cases import record_of, video_scores


class Drawer:
    """Records the clips that it would draw."""

    def __init__(self) -> None:
        self.drawn: list[tuple[str, str, int]] = []
        self.handed_on: list[tuple[Path, int]] = []

    def write_clip(
        self,
        source: VideoSource,
        masklets: Masklets,
        *,
        folder: Path,
        step: int,
        title: str,
    ) -> tuple[Path, ...]:
        """Note the video."""
        assert masklets.frames
        self.drawn.append((source.name, title, step))
        return (folder / source.name,)

    def add_strips(self, folder: Path, step: int) -> None:
        """Note the step."""
        self.handed_on.append((folder, step))


@pytest.fixture
def runner(tmp_path: Path) -> Any:
    return SimpleNamespace(
        visualizer=Drawer(), log_dir=str(tmp_path), iter=60, _train_loop=object()
    )


@pytest.fixture
def hook() -> ClipVisualizationHook:
    built: ClipVisualizationHook = HOOKS.build({'type': 'ClipVisualizationHook'})
    return built


def batch(*names: str) -> tuple[list[VideoRecord], list[VideoResult]]:
    """Videos with masklets, but for those called ``plain``."""
    records, results = [], []
    for name in names:
        video = MemoryVideo(name=name)
        records.append(record_of(video))
        results.append(VideoResult())
        if name != 'plain':
            results[-1].set_field(true_masklets(video, (0,)), 'masklets')
    return records, results


def validate(hook: ClipVisualizationHook, runner: Any, *names: str) -> None:
    for index, name in enumerate(names):
        hook.after_val_iter(runner, index, *batch(name))
    hook.after_val_epoch(runner, {})


def test_videos_with_masklets_are_drawn_and_logged(
    hook: ClipVisualizationHook,
    runner: Any,
    tmp_path: Path,
) -> None:
    validate(hook, runner, 'a', 'plain', 'b')
    assert [(name, step) for name, _, step in runner.visualizer.drawn] == [
        ('a', 60),
        ('b', 60),
    ]
    assert runner.visualizer.handed_on == [(tmp_path / 'vis_data' / 'clips', 60)]


def test_title_has_step_and_score(hook: ClipVisualizationHook, runner: Any) -> None:
    records, results = batch('a')
    results[0].set_field(video_scores('a', o1=(0.5, 0.7), o2=(0.1, 0.3)), 'scores')
    hook.after_val_iter(runner, 0, records, results)
    assert runner.visualizer.drawn == [('a', 'a   step 60   J&F 40.0', 60)]


def test_video_without_scores_has_no_score_in_its_title(
    hook: ClipVisualizationHook,
    runner: Any,
) -> None:
    records, results = batch('a')
    results[0].set_field(video_scores('a'), 'scores')
    hook.after_val_iter(runner, 0, records, results)
    assert runner.visualizer.drawn == [('a', 'a   step 60', 60)]


@pytest.mark.parametrize('train_loop', [None, {'type': 'ClipTrainLoop'}])
def test_run_that_only_tests_builds_no_training_loop(
    hook: ClipVisualizationHook,
    runner: Any,
    train_loop: object,
) -> None:
    runner._train_loop = train_loop
    del runner.iter  # asking for it would build the loop
    hook.after_test_iter(runner, 0, *batch('a'))
    hook.after_test_epoch(runner, {})
    validate(hook, runner, 'b')
    assert [step for _, _, step in runner.visualizer.drawn] == [0, 0]
    assert [step for _, step in runner.visualizer.handed_on] == [0, 0]


def test_visualizer_that_cannot_draw_videos_is_refused(
    hook: ClipVisualizationHook,
    runner: Any,
) -> None:
    runner.visualizer = object()
    validate(hook, runner, 'plain')
    with pytest.raises(TypeError, match=r'object cannot draw.*ClipVisualizer'):
        validate(hook, runner, 'a')


def test_options_choose_the_folder_and_the_videos(runner: Any, tmp_path: Path) -> None:
    hook = ClipVisualizationHook(out_dir=str(tmp_path / 'shown'), max_videos=1)
    records, results = batch('a', 'b')
    records[1] = record_of(records[1].source, sample_index=1)
    hook.after_test_iter(runner, 0, records, results)
    hook.after_test_epoch(runner, {})
    assert [name for name, *_ in runner.visualizer.drawn] == ['a']
    assert runner.visualizer.handed_on == [(tmp_path / 'shown', 60)]
