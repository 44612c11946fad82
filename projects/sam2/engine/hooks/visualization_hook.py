"""Draws validation and test videos while a run goes on."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from ...structures import VideoResult


@HOOKS.register_module()
class ClipVisualizationHook(Hook):
    """Draws the videos whose masks the model has recorded.

    The model's ``MaskletRecorder`` chooses the videos and the number of frames. Each
    process draws the videos that it tracked; after the last one, the first process
    adds the picture strips to TensorBoard.

    ``tools/test.py --show --show-dir DIR`` sets the options.

    Args:
        show: Show the frames of each video in a window as well.
        wait_time: Seconds for which a frame is shown; 0 waits for a key.
        out_dir: Folder of strips and videos; None for
            ``<work_dir>/<timestamp>/vis_data/clips``.
        max_videos: Draw the first videos of the dataset only; None for all that were
            recorded.
    """

    priority = 'LOW'

    def __init__(
        self,
        *,
        show: bool = False,
        wait_time: float = 2.0,
        out_dir: str | None = None,
        max_videos: int | None = None,
    ) -> None:
        self.show = show
        self.wait_time = wait_time
        self.out_dir = None if out_dir is None else Path(out_dir)
        self.max_videos = max_videos

    def before_test(self, runner: Runner) -> None:
        """Fail before the first video if no window can be opened."""
        visualizer: Any = runner.visualizer
        if self.show and hasattr(visualizer, 'check_windows'):
            visualizer.check_windows()

    def after_val_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,  # video records
        outputs: Sequence[VideoResult] | None = None,
    ) -> None:
        """Draw the videos of a batch."""
        step = _step(runner)
        for record, result in zip(data_batch or (), outputs or (), strict=True):
            limit = self.max_videos
            is_left_out = limit is not None and record.sample_index >= limit
            if is_left_out or 'masklets' not in result:
                continue
            visualizer: Any = runner.visualizer
            if not hasattr(visualizer, 'write_clip'):
                msg = (
                    f'{type(visualizer).__name__} cannot draw videos; set '
                    "visualizer=dict(type='ClipVisualizer', …) or remove the hook"
                )
                raise TypeError(msg)
            title = f'{record.source.name}   step {step}{_score(result)}'
            if self.show:
                visualizer.show_clip(
                    record.source,
                    result.masklets,
                    title=title,
                    wait_time=self.wait_time,
                )
            files = visualizer.write_clip(
                record.source,
                result.masklets,
                folder=self._folder(runner),
                step=step,
                title=title,
            )
            for path in files:
                print_log(f'Wrote {path}', logger='current')

    def after_val_epoch(
        self,
        runner: Runner,
        metrics: dict[str, float] | None = None,
    ) -> None:
        """Add the strips to TensorBoard; the metric has waited for all processes."""
        visualizer: Any = runner.visualizer
        if hasattr(visualizer, 'add_strips'):
            visualizer.add_strips(self._folder(runner), _step(runner))

    after_test_iter = after_val_iter
    after_test_epoch = after_val_epoch

    def _folder(self, runner: Runner) -> Path:
        return self.out_dir or Path(runner.log_dir) / 'vis_data' / 'clips'


def _step(runner: Runner) -> int:
    """Number of optimizer steps so far; 0 in a run that only validates or tests."""
    # `runner.iter` would build the training loop of such a run.
    loop = runner._train_loop  # noqa: SLF001  it has no public name
    return 0 if loop is None or isinstance(loop, dict) else runner.iter


def _score(result: VideoResult) -> str:
    """Mean J&F of a video for its title, if it was scored."""
    if 'scores' not in result or not result.scores.objects:
        return ''
    values = (*result.scores.j, *result.scores.f)
    return f'   J&F {100 * sum(values) / len(values):.1f}'
