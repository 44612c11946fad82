"""Pictures of validation videos while training runs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from ...structures import Masklets, VideoRecord, VideoResult, VideoSource

CLIP_FOLDER = 'clips'


@runtime_checkable
class ClipDrawer(Protocol):
    """What the hook asks of the visualizer, :class:`ClipVisualizer` for one."""

    def write_clip(
        self,
        source: VideoSource,
        masklets: Masklets,
        *,
        folder: Path,
        step: int,
        title: str,
    ) -> tuple[Path, ...]:
        """Write pictures of a video."""

    def add_strips(self, folder: Path, step: int) -> None:
        """Hand the strips of a step to TensorBoard."""


@HOOKS.register_module()
class ClipVisualizationHook(Hook):
    """Draws the videos whose masks were kept, in validation and in testing.

    Which ones are kept, and how many frames, is for the model's ``MaskletRecorder``
    to say. Each process draws the videos that it tracked; once all have finished,
    the first one hands the strips to TensorBoard.

    Files lie in ``<work_dir>/<timestamp>/vis_data/clips``.
    """

    priority = 'LOW'

    def after_val_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Sequence[VideoResult] | None = None,
    ) -> None:
        """Draw the videos of a batch."""
        _draw(runner, data_batch or (), outputs or ())

    def after_val_epoch(
        self,
        runner: Runner,
        metrics: dict[str, float] | None = None,
    ) -> None:
        """Hand the strips on; the metric has waited for all processes."""
        _hand_on(runner)

    after_test_iter = after_val_iter
    after_test_epoch = after_val_epoch


def _draw(
    runner: Runner, records: Sequence[VideoRecord], results: Sequence[VideoResult]
) -> None:
    """Draw the videos of a batch whose masks were kept."""
    step = _step(runner)
    for record, result in zip(records, results, strict=True):
        if 'masklets' not in result:
            continue
        drawer = runner.visualizer
        if not isinstance(drawer, ClipDrawer):
            msg = (
                f'{type(drawer).__name__} cannot draw videos; set '
                "visualizer=dict(type='ClipVisualizer', …) or remove the hook"
            )
            raise TypeError(msg)
        title = f'{record.source.name}   step {step}{_figures(result)}'
        files = drawer.write_clip(
            record.source,
            result.masklets,
            folder=_folder(runner),
            step=step,
            title=title,
        )
        for path in files:
            print_log(f'Drew {path}', logger='current')


def _hand_on(runner: Runner) -> None:
    """Show the strips of this step wherever the visualizer logs to."""
    if isinstance(runner.visualizer, ClipDrawer):
        runner.visualizer.add_strips(_folder(runner), _step(runner))


def _folder(runner: Runner) -> Path:
    """Where pictures lie."""
    return Path(runner.log_dir) / 'vis_data' / CLIP_FOLDER


def _figures(result: VideoResult) -> str:
    """Mean J&F of a video as text, where it was scored."""
    if 'scores' not in result or not result.scores.objects:
        return ''
    values = (*result.scores.j, *result.scores.f)
    return f'   J&F {100 * sum(values) / len(values):.1f}'


def _step(runner: Runner) -> int:
    """Optimizer steps so far; 0 in a run that only validates or tests."""
    # Asking for `runner.iter` would build the training loop of such a run.
    loop = runner._train_loop  # noqa: SLF001  it has no public name
    return 0 if loop is None or isinstance(loop, dict) else runner.iter
