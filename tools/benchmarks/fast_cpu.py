"""Measure what the settings for speed on a CPU gain, and what they change.

Encodes a frame and tracks an object on it, with full memories, on one thread: as by
default, and with each setting. Weights and memories are random and the object is
predicted to be present; the table states the change of its mask logits (root mean
square, over that of the default). The settings alternate in one process, and the median
of CPU times counts. What they cost in J&F depends on the data: ``tools/test.py``
with the same options tells.

    python tools/benchmarks/fast_cpu.py --json work_dirs/fast_cpu.json
    python tools/benchmarks/fast_cpu.py --config sam2.1_hiera_b+ --size 512
"""

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from repository_root import use_repository_root  # type: ignore[import-not-found]

use_repository_root()

from video_objects import Bench, open_bench  # type: ignore[import-not-found]

import projects.sam2.registration  # noqa: F401  registers the parts
from projects.sam2.models.fast import CPUPrecision, set_cpu_precision

Setting = tuple[CPUPrecision, int]  # cpu_precision and memory_pooling
SETTINGS: dict[str, Setting] = {
    'default': ('float32', 1),
    '--fast (bfloat16)': ('bfloat16', 1),
    'memory_pooling=2': ('float32', 2),
    'both': ('bfloat16', 2),
}
Row = dict[str, float]


@torch.no_grad()
def measure(bench: Bench, num_rounds: int) -> dict[str, Row]:
    """Time all settings alternately, after a round that is not counted."""
    model = bench.predictor.model
    session = bench.session(1)
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in SETTINGS}
    masks: dict[str, Tensor] = {}
    for _ in range(1 + num_rounds):
        for name, (precision, pooling) in SETTINGS.items():
            set_cpu_precision(model, precision)
            model.tracker.memory_pooling = pooling
            encode_s, features = bench.timed(bench.features)
            track_s, masks[name] = bench.timed(bench.together, session, features)
            times[name].append((encode_s, track_s))
    reference = masks['default']
    rows = {}
    for name, rounds in times.items():
        encode, track = zip(*rounds[1:], strict=True)
        error = (masks[name] - reference).square().mean().sqrt()
        rows[name] = {
            'encode_s': statistics.median(encode),
            'track_s': statistics.median(track),
            'change': (error / reference.square().mean().sqrt()).item(),
        }
    return rows


def main(arguments: Sequence[str] | None = None) -> dict[str, Row]:
    """Measure, print a table and write it.

    Args:
        arguments: Words after the program's name; None takes those of the process.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('--config', default='sam2.1_hiera_t', help='config or released name')
    add('--size', type=int, help='side of the frames (default: of the config)')
    add('--rounds', type=int, default=3, help='of all settings (default 3)')
    add('--json', type=Path, metavar='FILE', help='write the table')
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    options.device, options.compile, options.max_batch = 'cpu', False, None
    rows = measure(open_bench(options), options.rounds)
    print(f'{"setting":20} {"encode s":>9} {"track s":>9} {"change":>9}')
    for name, row in rows.items():
        seconds = f'{row["encode_s"]:9.3f} {row["track_s"]:9.3f}'
        print(f'{name:20} {seconds} {row["change"]:9.1e}')
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(rows, indent=2), encoding='utf-8')
    return rows


if __name__ == '__main__':
    main()
