"""Time of a training step of mmsegmentation with two backbones, measured in turns.

::

    python tools/benchmarks/backbone_step.py                # on a CPU, one thread
    python tools/benchmarks/backbone_step.py --device cuda --bfloat16 --batch-size 8

By default UPerNet with Hiera tiny is compared with UPerNet with Swin-T. Both start from
random weights and see the same random images. The steps alternate, so that other
programs slow down both alike; the ratio is that of the medians. On a CPU the time is
that of the processor.
"""

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.model import BaseModel, revert_sync_batchnorm
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import DefaultScope
from mmengine.structures import PixelData

import projects.sam2.bridges.mmseg  # noqa: F401  registers the parts

CONFIGS = Path(__file__).resolve().parents[2] / 'configs' / 'mmseg'
OURS = CONFIGS / 'hiera-t_upernet_8xb2-160k_ade20k-512x512.py'
STOCK = 'swin/swin-tiny-patch4-window7-in1k-pre_upernet_8xb2-160k_ade20k-512x512.py'
NUM_CLASSES = 19


def read(name: str) -> Config:
    """Read a config by its path or by its name in a package (``mmseg::…``)."""
    return get_config(name) if '::' in name else Config.fromfile(name)


def build(config: Config, device: str) -> BaseModel:
    """Build a segmentor with random weights for training in one process."""
    from mmseg.registry import MODELS

    with DefaultScope.overwrite_default_scope('mmseg'):
        segmentor = MODELS.build(config.model)
    # SyncBN is for several processes; a Runner does the same.
    model: BaseModel = revert_sync_batchnorm(segmentor).to(device)  # type: ignore[assignment]
    model.train()
    return model


def make_batch(size: int, batch_size: int) -> dict[str, Any]:
    """Random images, each of one class."""
    from mmseg.structures import SegDataSample

    samples = []
    for index in range(batch_size):
        labels = torch.full((1, size, size), index % NUM_CLASSES)
        sample = SegDataSample(metainfo={'img_shape': (size, size)})
        sample.gt_sem_seg = PixelData(data=labels)
        samples.append(sample)
    images = torch.randint(0, 256, (batch_size, 3, size, size), dtype=torch.uint8)
    return {'inputs': [*images], 'data_samples': samples}


def main() -> None:
    """Measure, and print the medians as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--config', default=str(OURS), help='config that is measured')
    parser.add_argument(
        '--other', default=f'mmseg::{STOCK}', help='config to compare with'
    )
    parser.add_argument('--size', type=int, default=512, help='side of the images')
    parser.add_argument('--batch-size', type=int, default=2)
    parser.add_argument('--steps', type=int, default=7, help='measured steps of each')
    parser.add_argument('--threads', type=int, default=1, help='threads of torch')
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--bfloat16', action='store_true', help='as train.py --amp')
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    batch = make_batch(options.size, options.batch_size)
    runs: dict[str, tuple[BaseModel, OptimWrapper]] = {}
    seconds: dict[str, list[float]] = {}
    for name in (options.config, options.other):
        config = read(name)
        model = build(config, options.device)
        if options.bfloat16:
            config.optim_wrapper.type = 'SAM2BFloat16OptimWrapper'
        runs[name] = model, build_optim_wrapper(model, config.optim_wrapper)
        seconds[name] = []
    clock = time.process_time if options.device == 'cpu' else time.perf_counter
    for step in range(options.steps + 1):
        for name, (model, wrapper) in runs.items():
            start = clock()
            model.train_step(dict(batch), wrapper)
            if options.device != 'cpu':
                torch.cuda.synchronize()
            if step:  # the first one warms up
                seconds[name].append(clock() - start)
    medians = [statistics.median(values) for values in seconds.values()]
    report = {
        'seconds': dict(zip(seconds, medians, strict=True)),
        'iterations/s over the other': medians[1] / medians[0],
    }
    print(json.dumps(report, indent=2))


if __name__ == '__main__':
    main()
