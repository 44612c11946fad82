"""Complete runs of SAM 2 on tiny clips, with the config of the quickstart."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import MODELS
from mmengine.runner import Runner

from engine_processes import call_in_processes
from projects.sam2.datasets.processing.davis_export import write_synthetic_dataset
from projects.sam2.datasets.sources.synthetic import make_plans
from projects.sam2.engine.config import load_config
from projects.sam2.structures import VideoResult
from tool_modules import ROOT, load_tool

CONFIG = str(ROOT / 'configs' / 'sam2_mini_synthetic.py')
SIZE = (64, 64)
# The same model and pipeline with smaller numbers.
SMALLER: dict[str, Any] = {
    'model.data_preprocessor.image_size': SIZE,
    'model.image_encoder.backbone.embed_dims': 8,
    'model.image_encoder.neck.in_channels': (8, 16, 32, 64),
    'train_dataloader.dataset.pipeline.0.num_frames': 3,
    'train_dataloader.dataset.pipeline.4.size': SIZE,
    'train_dataloader.batch_size': 2,
    'train_cfg.max_epochs': 1,
    'train_cfg.val_interval': 1,
    'param_scheduler.0.end': 2,
    'env_cfg.dist_cfg.timeout': 100,
    'default_hooks.logger.interval': 1,
    'default_hooks.checkpoint.interval': 1,
}
IN_PROCESS = {
    f'{loader}_dataloader.{key}': value
    for loader in ('train', 'val', 'test')
    for key, value in (('num_workers', 0), ('persistent_workers', False))
}
ONLY_TRAINING: dict[str, Any] = {
    **dict.fromkeys(('val_dataloader', 'val_evaluator', 'val_cfg')),
    'default_hooks.checkpoint.save_best': None,
    'default_hooks.checkpoint.rule': None,
}
PARTS_OF_CHECKPOINT = (
    'state_dict',
    'ema_state_dict',
    'optimizer',
    'param_schedulers',
    'random_states',
)


class LossRecorder(Hook):
    """Records the losses and the clips of a run.

    Attributes:
        losses: Loss of each iteration.
        clips: For each epoch, name and seed of each clip.
        results: Results of the validation videos.
    """

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.clips: list[list[tuple[str, int]]] = []
        self.results: list[VideoResult] = []

    def before_train_epoch(self, runner: Runner) -> None:
        """Start the list of an epoch."""
        self.clips.append([])

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: dict[str, Any] | None = None,
    ) -> None:
        """Record loss and clips of an iteration."""
        if outputs:
            self.losses.append(outputs['loss'].item())
        self.clips[-1] += [(clip.video_name, clip.seed) for clip in data_batch or ()]

    def after_val_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: object = None,
        outputs: Sequence[VideoResult] | None = None,
    ) -> None:
        """Record the results of a video."""
        self.results += outputs or ()

    @property
    def all_finite(self) -> bool:
        """Whether there was an iteration and all losses are finite."""
        return bool(self.losses) and all(map(math.isfinite, self.losses))


class NanLossHook(Hook):
    """Makes the mask loss of one iteration NaN."""

    def __init__(self, *, iteration: int) -> None:
        self.iteration = iteration

    def before_train_iter(self, runner: Runner, *_: object, **__: object) -> None:
        """Set the weight to NaN for one iteration."""
        is_time = runner.iter + 1 == self.iteration
        weight = math.nan if is_time else 20.0
        model: Any = runner.model
        model.loss_module.weights['loss_mask'] = weight


def write_clips(root: Path, **num_clips: int) -> Path:
    """Generate clips of 64 px and 8 frames."""
    plans = {
        split: make_plans(split=split, num_clips=count, num_frames=8, size=64, seed=3)
        for split, count in num_clips.items()
    }
    write_synthetic_dataset(root, plans, {}, num_workers=1, advance=_say_nothing)
    return root


def _say_nothing(num_done: int, num_clips: int) -> None:
    """Progress is not shown."""
    del num_done, num_clips


def small_config(data_root: Path, work_dir: Path, *options: dict[str, Any]) -> Config:
    """The quickstart's run with smaller numbers.

    Args:
        work_dir: Where the run writes; it names the experiment, since MMEngine shares
            its message hub among runs of one name.
    """
    changes: dict[str, Any] = {
        **SMALLER,
        'data_root': str(data_root),
        'work_dir': str(work_dir),
        'experiment_name': f'{work_dir.parent.name}_{work_dir.name}',
    }
    for more in options:
        changes.update(more)
    cfg = load_config(CONFIG, changes)
    # Pictures take a third of a small run's time; `test_training_run.py` looks at them.
    del cfg.default_hooks.visualization
    return cfg


def written_config(cfg: Config) -> str:
    """Write a config into its work directory, and tell where."""
    path = Path(cfg.work_dir) / 'config.py'
    path.parent.mkdir(parents=True, exist_ok=True)
    cfg.dump(path)
    return str(path)


def objects_of_clips(cfg: Config) -> list[list[int]]:
    """Number of objects of each clip, batch by batch."""
    loader = Runner.build_dataloader(cfg.train_dataloader, seed=cfg.randomness.seed)
    return [[len(clip.object_ids) for clip in batch] for batch in loader]


def train_recorded(cfg: Config) -> tuple[Runner, LossRecorder]:
    """Train in this process."""
    runner, recorder = Runner.from_cfg(cfg), LossRecorder()
    runner.register_hook(recorder)
    runner.train()
    return runner, recorder


def run_tool(
    name: str, cfg: Config, *words: str, world_size: int = 1
) -> list[int | None]:
    """Call a tool in processes of its own, as torchrun would.

    Args:
        name: ``'train'`` or ``'test'``.
    """
    line = [name, written_config(cfg), *words]
    return call_in_processes(_call_tool, line, world_size)


def _call_tool(words: list[str], launcher: str) -> None:
    """A tool with its command line."""
    name, *rest = words
    load_tool(name).main([*rest, '--launcher', launcher])


def write_weights(cfg: Config, path: Path) -> str:
    """Write the weights that training with this config would start with."""
    torch.manual_seed(1)
    model = MODELS.build(cfg.model)
    model.init_weights()
    torch.save({'state_dict': model.state_dict()}, path)
    return str(path)


def logged_metrics(work_dir: Path) -> dict[str, float]:
    """The figures that MMEngine wrote after ``tools/test.py``."""
    (path,) = work_dir.glob('*_*/*_*.json')
    metrics: dict[str, float] = json.loads(path.read_text())
    return {key: metrics[key] for key in metrics if 'time' not in key}


def log_text(work_dir: Path) -> str:
    """All that a work directory's log files say."""
    return '\n'.join(path.read_text() for path in work_dir.glob('*_*/*.log'))
