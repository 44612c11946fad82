"""Options of ``tools/test.py`` and ``tools/train.py`` that change the config."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict

from .config import part_name

RECORDER = 'MaskletRecorder'
DUMP_SUFFIXES = ('.pkl', '.pickle', '.json')
EVERYTHING = 1_000_000_000  # videos, or frames of a video


def apply_visualization(
    cfg: Config, *, show: bool, show_dir: str | None, wait_time: float
) -> None:
    """Draw all videos of a test, into a folder and in windows.

    Raises:
        ValueError: If the config has no hook that draws videos.
    """
    hook = _visualization_hook(cfg)
    if hook is None:
        msg = (
            '--show and --show-dir need the hook that draws: set default_hooks.'
            "visualization=dict(type='ClipVisualizationHook')"
        )
        raise ValueError(msg)
    hook.update(show=show, wait_time=wait_time)
    if show_dir is not None:
        hook['out_dir'] = show_dir
    _record_everything(cfg)


def apply_dump(cfg: Config, out_file: str) -> None:
    """Write scores and masks of all videos of a test to a file.

    Raises:
        OSError: If the folder of the file cannot be written to.
        ValueError: If the file is neither a pickle nor JSON.
    """
    path = Path(out_file)
    if path.suffix not in DUMP_SUFFIXES:
        msg = f'--out {out_file}: give a file that ends in {", ".join(DUMP_SUFFIXES)}'
        raise ValueError(msg)
    if path.is_dir():
        msg = f'--out {out_file} is a folder; give a file'
        raise IsADirectoryError(msg)
    path.parent.mkdir(parents=True, exist_ok=True)  # fails before the test, not after
    hook = _visualization_hook(cfg)
    if hook is not None and 'out_dir' not in hook and not hook.get('show'):
        # Everything is recorded, but no more is drawn than without --out.
        num_drawn = [part.get('max_videos', 4) for part in _recorders(cfg)]
        hook.setdefault('max_videos', max(num_drawn, default=0))
    _record_everything(cfg)
    evaluator = cfg.get('test_evaluator') or []
    parts = list(evaluator) if isinstance(evaluator, list | tuple) else [evaluator]
    cfg.test_evaluator = [*parts, dict(type='ClipDumpResults', out_file=out_file)]


def apply_tta(cfg: Config) -> None:
    """Wrap the model in the config's ``tta_model``; by default, mirror the frames.

    Raises:
        ValueError: If it is not the config of a model.
    """
    wrapper = cfg.get('tta_model') or {'type': 'SAM2TTAModel'}
    if not isinstance(wrapper, dict):
        msg = f"tta_model is {wrapper!r}; give dict(type='SAM2TTAModel')"
        raise ValueError(msg)
    cfg.model = ConfigDict(**wrapper, module=cfg.model)


def apply_auto_scale_lr(cfg: Config) -> None:
    """Scale the learning rate by the clips per optimizer step.

    MMEngine divides processes times batch size by ``auto_scale_lr.base_batch_size``; it
    leaves out accumulated gradients, which are counted here.

    Raises:
        ValueError: If the config does not say for how many clips its learning rate is.
    """
    settings = cfg.get('auto_scale_lr')
    base = settings.get('base_batch_size') if isinstance(settings, dict) else None
    if not isinstance(base, int | float) or not 0 < base < math.inf:
        msg = (
            '--auto-scale-lr needs the number of clips per step that the learning rate '
            'is meant for: set auto_scale_lr=dict(enable=False, base_batch_size=8)'
        )
        raise ValueError(msg)
    accumulated = cfg.optim_wrapper.get('accumulative_counts', 1)
    if not isinstance(accumulated, int) or accumulated < 1:
        msg = (
            f'optim_wrapper.accumulative_counts is {accumulated!r}; give a whole '
            f'number of at least 1'
        )
        raise ValueError(msg)
    cfg.auto_scale_lr = dict(enable=True, base_batch_size=base / accumulated)


def _visualization_hook(cfg: Config) -> dict[str, Any] | None:
    """The hook that draws videos, or None."""
    hook = (cfg.get('default_hooks') or {}).get('visualization')
    return hook if hook and part_name(hook) == 'ClipVisualizationHook' else None


def _recorders(cfg: Config) -> Iterator[dict[str, Any]]:
    """The accumulators of the model that record masks."""
    for part in cfg.model.get('accumulators') or ():
        if part_name(part) == RECORDER:
            yield part


def _record_everything(cfg: Config) -> None:
    """Record the masks of all frames of all videos."""
    if not any(_recorders(cfg)):
        accumulators = list(cfg.model.get('accumulators') or ())
        cfg.model.accumulators = [*accumulators, ConfigDict(type=RECORDER)]
    for recorder in _recorders(cfg):
        recorder.update(max_videos=EVERYTHING, max_frames=EVERYTHING)
