"""Measure the cost of DDP's search for parameters that get no gradient.

    OMP_NUM_THREADS=1 torchrun --nproc-per-node 2 \
        tools/benchmarks/unused_parameters.py configs/_base_/models/sam2_1_mini.py

All processes train on a clip of noise with a mask prompt, alternately with and without
``find_unused_parameters``. Without it DDP would wait for parameters that get no
gradient, so these are frozen in both cases. Medians of the CPU time of the first
process.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from repository_root import use_repository_root  # type: ignore[import-not-found]

use_repository_root()

from step_measurement import (  # type: ignore[import-not-found]
    Setting,
    build,
    make_clip,
)

from projects.sam2.models import SAM2
from projects.sam2.structures import ClipBatch


class TotalLoss(nn.Module):
    """The sum of a model's losses, as a forward pass that DDP can wrap."""

    def __init__(self, model: SAM2) -> None:
        super().__init__()
        self.model = model

    def forward(self, clip: ClipBatch) -> Tensor:
        """Sum the losses of a clip."""
        return torch.stack([*self.model.loss(clip).values()]).sum()


def wrapped(setting: Setting, *, searches: bool) -> DistributedDataParallel:
    """Build a model in DDP whose trained parameters all get a gradient."""
    module = TotalLoss(build(setting, 'ours'))
    module(make_clip(setting)).backward()
    for parameter in module.parameters():
        parameter.requires_grad_(parameter.grad is not None)
        parameter.grad = None
    return DistributedDataParallel(module, find_unused_parameters=searches)


def measure(setting: Setting, rounds: int) -> dict[str, float]:
    """Time steps with and without the search alternately, in a process group.

    Returns:
        Seconds of a step ``with`` and ``without`` the search, and their ``ratio``.
    """
    clip = make_clip(setting)
    ways = {
        name: wrapped(setting, searches=name == 'with') for name in ('with', 'without')
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds + 1):
        for name, model in ways.items():
            model.zero_grad(set_to_none=True)
            start = time.process_time()
            model(clip).backward()
            times[name].append(time.process_time() - start)
    medians = {name: statistics.median(runs[1:]) for name, runs in times.items()}
    return {**medians, 'ratio': medians['with'] / medians['without']}


def main() -> None:
    """Measure in the processes of torchrun, and print and write the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='file with a model')
    parser.add_argument('--image-size', type=int, default=128, help='in pixels')
    parser.add_argument('--num-frames', type=int, default=4, help='of the clip')
    parser.add_argument('--num-objects', type=int, default=3, help='of the clip')
    parser.add_argument('--rounds', type=int, default=20, help='steps of each way')
    parser.add_argument('--json', type=Path, help='file for the figures')
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    setting = Setting(
        config=arguments.config,
        image_size=arguments.image_size,
        num_frames=arguments.num_frames,
        num_objects=arguments.num_objects,
        prompt='mask',
        device='cpu',
        dtype='float32',
        dropout=True,
        num_threads=1,
    )
    distributed.init_process_group('gloo')
    figures = measure(setting, arguments.rounds)
    is_first = distributed.get_rank() == 0
    distributed.destroy_process_group()
    if is_first:
        print(' '.join(f'{name}: {value:.4f}' for name, value in figures.items()))
        if arguments.json is not None:
            arguments.json.parent.mkdir(parents=True, exist_ok=True)
            arguments.json.write_text(json.dumps(figures, indent=2), encoding='utf-8')


if __name__ == '__main__':
    main()
