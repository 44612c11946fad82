"""A tiny model and dataset that train under the real Runner in a second.

The model has what makes resuming hard: dropout, and a parameter that gets a gradient
in some steps only. Its clips depend on the epoch. Hooks send signals, stop or spoil a
run. Parts are named by their import path (``engine_toys.ToyModel``), so nothing here
enters a registry.
"""

import itertools
import multiprocessing
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement
from torch import Tensor, nn
from torch.utils.data import Dataset

NUM_FEATURES = 4

RUNS = itertools.count()
HOOKS: dict[str, Any] = {
    'checkpoint': {
        'type': 'SAM2CheckpointHook',
        'interval': 1,
        'save_best': 'J&F',
        'rule': 'greater',
    },
    'random_state': {'type': 'ClipRandomStateHook'},
    'non_finite': {'type': 'ClipNonFiniteHook'},
    'preemption': {'type': 'ClipPreemptionHook'},
}


class ToyClips(Dataset[dict[str, Tensor]]):
    """Vectors that depend on the index and on the epoch, with a linear target."""

    metainfo: ClassVar[dict[str, Any]] = {'name': 'toy'}

    def __init__(self, *, length: int) -> None:
        self.length = length
        self.loaded: list[int] = []

    def __len__(self) -> int:
        """Number of clips."""
        return self.length

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """One clip, always the same for an index and an epoch."""
        self.loaded.append(int(index))
        seed = 1000 * getattr(index, 'epoch', 0) + int(index)
        generator = torch.Generator().manual_seed(seed)
        features = torch.randn(NUM_FEATURES, generator=generator)
        return {'features': features, 'target': features.sum()}


class ToyRootedClips(ToyClips):
    """Clips with a ``data_root``."""

    def __init__(self, *, data_root: str, length: int) -> None:
        super().__init__(length=length)
        self.data_root = data_root


class ToyModel(BaseModel):
    """Two layers with dropout between them, and a parameter that is not always used."""

    def __init__(self, *, dropout: float = 0.5, width: int = 8) -> None:
        super().__init__()
        self.first = nn.Linear(NUM_FEATURES, width)
        self.dropout = nn.Dropout(dropout)
        self.second = nn.Linear(width, 1)
        self.sometimes = nn.Parameter(torch.zeros(1))
        self.never = nn.Parameter(torch.ones(1))

    def forward(  # type: ignore[override]  # a model names its inputs
        self, features: list[Tensor], target: list[Tensor], mode: str = 'loss'
    ) -> dict[str, Tensor] | list[BaseDataElement]:
        """Loss of a batch, or the error of each clip."""
        inputs = torch.stack(features)
        output = self.second(self.dropout(self.first(inputs).relu()))[:, 0]
        if mode == 'predict':
            errors = (output - torch.stack(target)).abs().tolist()
            return [BaseDataElement(metainfo={'error': error}) for error in errors]
        loss = (output - torch.stack(target)).square().mean()
        uses = (inputs[:, 0] > 0).float()
        if uses.any():
            loss = loss + ((self.sometimes - 1).square() * uses).mean()
        return {'loss': loss}


class ToyRecordingWrapper(OptimWrapper):
    """Saves the gradients of each step, before they are clipped."""

    def __init__(self, *, optimizer: torch.optim.Optimizer, path: str) -> None:
        super().__init__(optimizer)
        self.path = path
        self.steps: list[list[Tensor | None]] = []

    def step(self, **kwargs: object) -> None:
        """Save the accumulated gradients, and step."""
        parameters = self.optimizer.param_groups[0]['params']
        self.steps.append(
            [None if p.grad is None else p.grad.clone() for p in parameters]
        )
        if is_main_process():
            torch.save(self.steps, self.path)
        super().step(**kwargs)


class ToyMetric(BaseMetric):
    """Reports a score named J&F that is higher for smaller errors."""

    def process(self, data_batch: object, data_samples: Sequence[Any]) -> None:
        """Collect the errors."""
        del data_batch
        self.results.extend(sample['error'] for sample in data_samples)

    def compute_metrics(self, results: list[float]) -> dict[str, float]:
        """Average them."""
        return {'J&F': 100.0 - sum(results) / len(results)}


class ToyKillHook(Hook):
    """Kills its own process with SIGKILL after an iteration."""

    priority = 'LOWEST'

    def __init__(self, *, iteration: int) -> None:
        self.iteration = iteration

    def after_train_iter(self, runner: Runner, *_: object, **__: object) -> None:
        """Kill after the given iteration."""
        if runner.iter + 1 == self.iteration:
            os.kill(os.getpid(), signal.SIGKILL)


class ToyStopHook(Hook):
    """Asks to stop after an iteration, on one process."""

    def __init__(self, *, iteration: int, rank: int = 0) -> None:
        self.iteration = iteration
        self.rank = rank

    def after_train_iter(self, runner: Runner, *_: object, **__: object) -> None:
        """Ask after the given iteration."""
        if runner.iter + 1 == self.iteration and runner.rank == self.rank:
            runner.train_loop.stop_training = True


def toy_config(work_dir: Path, **changes: object) -> Config:
    """A run of two epochs of six batches of two clips, validated after each."""
    clips = {'type': 'engine_toys.ToyClips', 'length': 12}
    loader = {'dataset': clips, 'batch_size': 2, 'num_workers': 0}
    validation = {
        **loader,
        'batch_size': 1,
        'dataset': {**clips, 'length': 4},
        'sampler': {'type': 'ClipVideoSampler'},
    }
    cfg = Config(
        {
            'default_scope': 'mmengine',
            # MMEngine shares its message hub among runs of one name in one second.
            'experiment_name': f'toy{next(RUNS)}',
            'work_dir': str(work_dir),
            'randomness': {'seed': 7},
            'env_cfg': {'dist_cfg': {'timeout': 60}},
            'model_wrapper_cfg': {
                'type': 'MMDistributedDataParallel',
                'find_unused_parameters': True,
            },
            'model': {'type': 'engine_toys.ToyModel'},
            'train_dataloader': {
                **loader,
                'sampler': {'type': 'ClipSampler'},
                'batch_sampler': {'type': 'ClipBatchSampler'},
            },
            'train_cfg': {'type': 'ClipTrainLoop', 'max_epochs': 2},
            'optim_wrapper': {
                'type': 'OptimWrapper',
                'optimizer': {'type': 'AdamW', 'lr': 0.05},
                'clip_grad': {'max_norm': 1.0},
            },
            'param_scheduler': {
                'type': 'CosineAnnealingLR',
                'eta_min_ratio': 0.1,
                'convert_to_iter_based': True,
            },
            'val_dataloader': validation,
            'val_cfg': {},
            'val_evaluator': {'type': 'engine_toys.ToyMetric'},
            'test_dataloader': validation,
            'test_cfg': {},
            'test_evaluator': {'type': 'engine_toys.ToyMetric'},
            'default_hooks': HOOKS,
            'custom_hooks': [],
            'log_level': 'WARNING',
        }
    )
    cfg.merge_from_dict({key.replace('__', '.'): v for key, v in changes.items()})
    return cfg


def toy_config_file(path: Path, **changes: object) -> str:
    """Write the toy run as a config file without a work directory.

    Args:
        changes: As for :func:`toy_config`.
    """
    cfg = toy_config(path.parent, **changes)
    cfg.pop('work_dir')
    cfg.custom_imports = {'imports': ['projects.sam2', 'engine_toys']}
    cfg.dump(path)
    return str(path)


def train(cfg: Config) -> Runner:
    """Train in this process."""
    runner = Runner.from_cfg(cfg)
    runner.train()
    return runner


def write_checkpoint(folder: Path, iteration: int, **changes: object) -> Path:
    """Write a checkpoint to resume from, without a run.

    Args:
        changes: Of its keys; None removes a key.
    """
    parts: dict[str, object] = {
        'meta': {'epoch': 0, 'iter': iteration},
        'state_dict': {'weight': torch.full((600,), float(iteration))},
        'message_hub': {},
        'optimizer': {},
        **changes,
    }
    path = folder / f'iter_{iteration}.pth'
    torch.save({key: part for key, part in parts.items() if part is not None}, path)
    return path


def load(path: Path) -> Any:
    """Read a file as strictly as torch can."""
    return torch.load(path, weights_only=True)


def differences(
    left: Any,
    right: Any,
    where: str = '',
) -> list[str]:
    """Places at which two nested records are not bit for bit the same."""
    if isinstance(left, Tensor):
        return [] if torch.equal(left, right) else [where]
    if isinstance(left, dict):
        if left.keys() != right.keys():
            return [f'{where}: {sorted(map(str, left.keys() ^ right.keys()))}']
        pairs = [(key, left[key], right[key]) for key in left]
    elif isinstance(left, list | tuple):
        if len(left) != len(right):
            return [f'{where}: {len(left)} and {len(right)} entries']
        pairs = [(i, *pair) for i, pair in enumerate(zip(left, right, strict=True))]
    else:
        return [] if left == right else [f'{where}: {left!r} and {right!r}']
    return [
        found
        for key, one, other in pairs
        for found in differences(one, other, f'{where}.{key}')
    ]


class ToySignalHook(Hook):
    """Sends a signal to its own process and its data loader workers.

    It does so after an iteration of training, or after the first iteration of the
    validation that follows ``iteration`` iterations.
    """

    def __init__(
        self, *, iteration: int, number: int, rank: int = 0, in_validation: bool = False
    ) -> None:
        self.iteration = iteration
        self.number = number
        self.rank = rank
        self.in_validation = in_validation

    def after_train_iter(self, runner: Runner, *_: object, **__: object) -> None:
        """Send the signal after the given iteration."""
        if not self.in_validation and runner.iter + 1 == self.iteration:
            self._send(runner)

    def after_val_iter(
        self, runner: Runner, batch_idx: int, *_: object, **__: object
    ) -> None:
        """Send the signal after the given iteration."""
        if self.in_validation and (runner.iter, batch_idx) == (self.iteration, 0):
            self._send(runner)

    def _send(self, runner: Runner) -> None:
        """Send the signal on one process, from outside, as a cluster does."""
        if runner.rank == self.rank:
            pids = [worker.pid for worker in multiprocessing.active_children()]
            line = ' '.join(map(str, ['kill', f'-{self.number}', *pids, os.getpid()]))
            subprocess.run(['sh', '-c', line], check=True)


class ToySlowHook(Hook):
    """Waits after an iteration, and writes a marker file to the work directory."""

    def __init__(self, *, iteration: int, seconds: float) -> None:
        self.iteration = iteration
        self.seconds = seconds

    def after_train_iter(self, runner: Runner, *_: object, **__: object) -> None:
        """Wait after the given iteration."""
        if runner.iter + 1 == self.iteration:
            Path(runner.work_dir, f'waits_{runner.rank}').touch()
            time.sleep(self.seconds)


class ToyNanHook(Hook):
    """Puts NaN into some batches of one process."""

    def __init__(self, *, iterations: Sequence[int], rank: int = 0) -> None:
        self.iterations = iterations
        self.rank = rank

    def before_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
    ) -> None:
        """Replace one clip of the batch by NaN."""
        del batch_idx
        if runner.iter + 1 in self.iterations and runner.rank == self.rank:
            data_batch['features'][0].fill_(torch.nan)
