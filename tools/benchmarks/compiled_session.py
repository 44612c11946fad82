"""Measure a compiled video session: variants, differences, time to compile, and speed.

Both models run the same sessions: 1 to 9 clicks, boxes and masks on the first frame,
corrections, an object that is added late, and passes in both directions. A region that
cannot be traced as one graph raises an error. What is compiled after the warm-up counts
as a recompilation. Without a checkpoint the weights are random, and all objects are
predicted to be present.

    python tools/benchmarks/compiled_session.py --json work_dirs/compiled_session.json
    python tools/benchmarks/compiled_session.py --config sam2.1_hiera_t --image-size 256
    python tools/benchmarks/compiled_session.py --backend eager   # counts in less time

`--backend eager` traces the regions and runs torch's operators.
"""

import argparse
import copy
import json
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from repository_root import use_repository_root  # type: ignore[import-not-found]

use_repository_root()

from torch._dynamo.utils import counters

import projects.sam2.registration  # noqa: F401  registers the parts
from projects.sam2.apis import SAM2VideoPredictor, build_sam2
from projects.sam2.models import SAM2

Result = TypeVar('Result')
VIDEO_SIZE = (96, 128)
NUM_FRAMES = 12
MAX_DIFFERENCE = 1e-4  # over the root mean square
DTYPES = {'float32': None, 'bfloat16': torch.bfloat16}


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionReport:
    """A session of both models.

    Attributes:
        num_objects: Number of objects, without the late one.
        eager_s: Seconds of the model as it is.
        compiled_s: Seconds of the compiled model.
        difference: Largest difference of the mask logits over their root mean square.
        recompilations: Number of graphs that the session compiled.
    """

    num_objects: int
    eager_s: float
    compiled_s: float
    difference: float
    recompilations: int


def build_model(config: str, checkpoint: str | None, **options: object) -> SAM2:
    """Build a model whose objects are present."""
    torch.manual_seed(0)
    model = build_sam2(config, checkpoint, **options)  # type: ignore[arg-type]
    if checkpoint is None:  # random weights judge every object absent
        with torch.no_grad():
            model.mask_decoder.object_score_head.layers[-1].bias += 10
    return model


def noise_video() -> NDArray[np.uint8]:
    """Frames of noise, (T, H, W, 3)."""
    draw = np.random.default_rng(0)
    return draw.integers(0, 255, (NUM_FRAMES, *VIDEO_SIZE, 3), dtype=np.uint8)


def run_session(predictor: SAM2VideoPredictor, num_objects: int) -> list[Tensor]:
    """Prompt, track, correct, and track in reverse.

    Returns:
        The mask logits of every call, each (O, 1, H, W).
    """
    draw = np.random.default_rng(num_objects)
    state = predictor.init_state(noise_video())
    shown: list[Tensor] = []
    height, width = VIDEO_SIZE

    def click(frame_index: int, object_id: int, num_points: int) -> None:
        points = draw.uniform(0, min(VIDEO_SIZE), (num_points, 2)).astype(np.float32)
        labels = np.arange(num_points) % 2 == 0
        result = predictor.add_new_points_or_box(
            state, frame_index, object_id, points=points, labels=labels.astype(np.int32)
        )
        shown.append(result.mask_logits)

    def track(first: int, *, reverse: bool = False) -> None:
        shown.extend(
            result.mask_logits
            for result in predictor.propagate_in_video(
                state, start_frame_idx=first, reverse=reverse
            )
        )

    for object_id in range(num_objects):
        if object_id % 5 == 3:
            box = [5, 5, width // 2, height // 2]
            result = predictor.add_new_points_or_box(state, 0, object_id, box=box)
            shown.append(result.mask_logits)
        elif object_id % 5 == 4:
            mask = np.zeros(VIDEO_SIZE, dtype=bool)
            mask[object_id : height // 2, 10 : width // 2] = True
            shown.append(predictor.add_new_mask(state, 0, object_id, mask).mask_logits)
        else:
            click(0, object_id, 1 + object_id % 9)
    track(0)
    click(3, 0, 1)  # corrections
    click(3, 0, 4)
    click(5, num_objects, 2)  # a late object
    track(2)
    track(NUM_FRAMES - 1, reverse=True)
    return shown


def num_graphs() -> int:
    """Number of graphs compiled so far."""
    return counters['stats']['unique_graphs']


def timed(job: Callable[[], Result], device: torch.device) -> tuple[float, Result]:
    """Return the seconds that a job takes, and its result."""
    start = time.perf_counter()
    result = job()
    if device.type == 'cuda':
        torch.cuda.synchronize(device)
    return time.perf_counter() - start, result


def compare(
    eager: SAM2VideoPredictor, compiled: SAM2VideoPredictor, num_objects: int
) -> SessionReport:
    """Run a session with both predictors."""
    before = num_graphs()
    eager_s, expected = timed(lambda: run_session(eager, num_objects), eager.device)
    compiled_s, masks = timed(lambda: run_session(compiled, num_objects), eager.device)
    largest = max(
        (mask - target).abs().max().item()
        for mask, target in zip(masks, expected, strict=True)
    )
    scale = torch.cat([mask.flatten() for mask in expected]).square().mean().sqrt()
    return SessionReport(
        num_objects=num_objects,
        eager_s=eager_s,
        compiled_s=compiled_s,
        difference=largest / scale.item(),
        recompilations=num_graphs() - before,
    )


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line; None reads that of the process."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    mini = '_base_/models/sam2_1_mini.py'
    add('--config', default=mini, help=f'config or released name ({mini})')
    add('--checkpoint', help='weights (default: random)')
    add('--image-size', type=int, metavar='SIDE', help='(default: of the config)')
    add('--objects', type=int, nargs='+', default=[1, 2, 3, 9, 20], help='how many')
    add('--dtype', choices=DTYPES, default='float32', help='of autocast (float32)')
    add('--device', default='cpu', help='cpu (default) or cuda')
    add('--backend', default='inductor', help='of torch.compile (inductor)')
    add('--threads', type=int, default=1, help='of a CPU (1)')
    add('--json', type=Path, metavar='FILE', help='write the table')
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> list[SessionReport]:
    """Measure, print a table and write it."""
    options = parse_arguments(arguments)
    torch.set_num_threads(options.threads)
    side = options.image_size
    model = build_model(
        options.config,
        options.checkpoint,
        device=options.device,
        image_size=None if side is None else (side, side),
    )
    eager = SAM2VideoPredictor(model)
    compiled = SAM2VideoPredictor(copy.deepcopy(model))
    compiled.model.compile_regions(options.backend)
    dtype = DTYPES[options.dtype]
    autocast: AbstractContextManager[object] = torch.autocast(
        options.device, dtype=dtype, enabled=dtype is not None
    )
    with autocast:
        seconds, _ = timed(compiled.warm_up, compiled.device)
        print(f'warm-up: {seconds:.0f} s, {num_graphs()} graphs')
        print(
            f'{"objects":>7} {"eager s":>9} {"compiled s":>11} {"ratio":>6} '
            f'{"difference":>11} {"recompilations":>15}'
        )
        reports = []
        for num_objects in options.objects:
            report = compare(eager, compiled, num_objects)
            print(
                f'{num_objects:7} {report.eager_s:9.2f} {report.compiled_s:11.2f} '
                f'{report.compiled_s / report.eager_s:6.2f} {report.difference:11.1e} '
                f'{report.recompilations:15}',
                flush=True,
            )
            reports.append(report)
    print(f'target: difference at most {MAX_DIFFERENCE}, no recompilation')
    if options.json is not None:
        table = {
            'torch': torch.__version__,
            'options': {key: str(value) for key, value in vars(options).items()},
            'warm_up_s': seconds,
            'sessions': [asdict(report) for report in reports],
        }
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(table, indent=2), encoding='utf-8')
    return reports


if __name__ == '__main__':
    main()
