"""Measure the cost of segmenting everything in an image.

A grid of 32 x 32 points prompts an image of 1024 x 1024 pixels, with random weights. A
trained model keeps some of the masks, so two extremes are measured: `none` keeps no
mask (the cost of decoding), and `all` keeps the three masks of each point, which are
all upsampled, filtered, encoded and compared. The table has the CPU time of one thread
and the peak of added memory; on a GPU, wall-clock time and the peak of allocated
memory.

    python tools/benchmarks/automatic_masks.py --json work_dirs/automatic_masks.json
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from repository_root import use_repository_root  # type: ignore[import-not-found]

use_repository_root()

from resident_memory import (  # type: ignore[import-not-found]
    PeakMemory,
    resident_mb,
)

import projects.sam2.registration  # noqa: F401  registers the parts
from projects.sam2.apis import SAM2AutomaticMaskGenerator, build_sam2
from projects.sam2.models import SAM2

CASES = {'none': 1.0, 'all': -1.0}  # estimated IoU that a mask must exceed


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Cost of an image."""

    case: str
    num_masks: int
    seconds: float  # of CPU time; on a GPU, of wall-clock time
    added_mb: float


def measure(model: SAM2, case: str, *, points_per_side: int, before_mb: float) -> Cost:
    """Segment everything in an image once, in one of the ``CASES``."""
    generator = SAM2AutomaticMaskGenerator(
        model,
        points_per_side,
        pred_iou_thresh=CASES[case],
        stability_score_thresh=0.0,
        box_nms_thresh=1.0,
        output_mode='coco_rle',
    )
    height, width = model.data_preprocessor.image_size
    cells = np.random.default_rng(0).integers(0, 255, (height // 32, width // 32, 3))
    image = np.kron(cells, np.ones((32, 32, 1))).astype(np.uint8)
    device = next(model.parameters()).device
    on_gpu = device.type == 'cuda'
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(device)
    clock = time.perf_counter if on_gpu else time.process_time
    start = clock()
    with PeakMemory() as peak:
        masks = generator.generate(image)
    seconds = clock() - start
    allocated = torch.cuda.max_memory_allocated(device) / 2**20 if on_gpu else 0
    return Cost(
        case=case,
        num_masks=len(masks),
        seconds=seconds,
        added_mb=allocated or peak.max_mb - before_mb,
    )


def main(arguments: Sequence[str] | None = None) -> list[Cost]:
    """Measure, print a table and write it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('--config', default='sam2.1_hiera_t', help='config or released name')
    add('--points-per-side', type=int, default=32, help='along a side (default 32)')
    add('--size', type=int, help='side of the image (default: of the config)')
    add('--device', default='cpu', help='cpu (default) or cuda')
    add('--json', type=Path, metavar='FILE', help='write the table')
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    size = None if options.size is None else (options.size, options.size)
    model = build_sam2(options.config, device=options.device, image_size=size)
    print('kept   masks   seconds   added MB')
    costs = []
    before_mb = resident_mb()
    for case in CASES:
        points = options.points_per_side
        cost = measure(model, case, points_per_side=points, before_mb=before_mb)
        row = f'{case:4} {cost.num_masks:7} {cost.seconds:9.1f}'
        print(f'{row} {cost.added_mb:10.0f}', flush=True)
        costs.append(cost)
    if options.json is not None:
        report = {'device': options.device} | {c.case: asdict(c) for c in costs}
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(report, indent=2), encoding='utf-8')
    return costs


if __name__ == '__main__':
    main()
