"""Measure a training step: time, peak memory, and the share of each part.

    python tools/benchmarks/train_step.py configs/_base_/models/sam2_1_tiny.py \
        --image-size 512 --num-frames 4 --num-objects 3 --json work_dirs/train_step.json

Forward, loss and backward of one clip of noise, without the optimizer, in three ways:

plain       saves everything that autograd would save (`plain_training.py`)
ours        the config as it is, with its frozen parts, adapters and hook
low_memory  with the hook of `configs/_base_/schedules/finetune_40e_low_memory.py`

The ways run alternately in one process, and the medians of their times are compared:
CPU time on a CPU, where a busy machine slows all alike, and elapsed time on a GPU. Each
peak is measured in a new process: the highest resident memory on a CPU, the highest
allocated memory on a GPU, less that of the loaded model.

With --as-trained a recipe is measured with the clips and the precision that it trains
with. For models whose steps take minutes, --rounds 0 measures a single step:

    python tools/benchmarks/train_step.py configs/sam2_bplus_mose_16gb.py \
        --as-trained --prompt points --ways ours --rounds 0
"""

import argparse
import json
import statistics
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from repository_root import use_repository_root  # type: ignore[import-not-found]

use_repository_root()

from config_sizes import Sizes, sizes_of  # type: ignore[import-not-found]
from mmengine.config import Config
from step_measurement import (  # type: ignore[import-not-found]
    WAYS,
    Setting,
    measure_peak,
    peak_in_child,
    take_times,
)
from step_parts import (  # type: ignore[import-not-found]
    PARTS,
    Parts,
    measure_parts,
)

MILLION = 1e6
DEFAULTS = Sizes(image_size=512, num_frames=4, num_objects=3, dtype='float32')


@dataclass(frozen=True, slots=True, kw_only=True)
class StepReport:
    """Cost of a step in one of the ways.

    Attributes:
        way: One of ``WAYS``.
        seconds: Median time of a step.
        forward_seconds: Median time of its forward pass and loss.
        peak_megabytes: Peak memory above that of the loaded model.
        trained_parameters: Number of parameters that the optimizer would update.
        parts: Cost of each part; empty without rounds.
    """

    way: str
    seconds: float
    forward_seconds: float
    peak_megabytes: float
    trained_parameters: int
    parts: Parts


def measure(setting: Setting, ways: list[str], rounds: int) -> list[StepReport]:
    """Measure all ways.

    Args:
        ways: Some of ``WAYS``.
        rounds: Steps of each way that count; with 0 only the step in which the peak is
            measured.
    """
    num_steps = 2 if rounds else 1
    peaks = {way: peak_in_child(setting, way, num_steps) for way in ways}
    if rounds:
        times = take_times(setting, ways, rounds)
    else:
        times = {
            way: [(peak.seconds, peak.forward_seconds)] for way, peak in peaks.items()
        }
    return [
        StepReport(
            way=way,
            seconds=statistics.median(whole for whole, _ in times[way]),
            forward_seconds=statistics.median(forward for _, forward in times[way]),
            peak_megabytes=peaks[way].megabytes,
            trained_parameters=peaks[way].trained_parameters,
            parts=measure_parts(setting, way) if rounds else Parts(),
        )
        for way in ways
    ]


def ratios(reports: list[StepReport]) -> dict[str, float]:
    """Compare with the plain way, if it was measured."""
    of_way = {report.way: report for report in reports}
    result: dict[str, float] = {}
    if 'plain' not in of_way:
        return result
    plain = of_way['plain']
    for way, prefix in (('ours', ''), ('low_memory', 'low_memory_')):
        if way in of_way:
            report = of_way[way]
            memory = 'memory_ratio' if way == 'ours' else 'low_memory_ratio'
            result[f'{prefix}time_ratio'] = report.seconds / plain.seconds
            result[memory] = report.peak_megabytes / plain.peak_megabytes
    return result


def show(reports: list[StepReport]) -> None:
    """Print the reports as tables."""
    titles = f'{"way":12} {"step s":>8} {"forward s":>10} {"peak MB":>9}'
    print(f'{titles} {"trained M":>10}')
    for report in reports:
        row = f'{report.way:12} {report.seconds:8.2f} {report.forward_seconds:10.2f}'
        trained = report.trained_parameters / MILLION
        print(f'{row} {report.peak_megabytes:9.0f} {trained:10.2f}')
    for report in filter(lambda report: report.parts.seconds, reports):
        print(f'\n{report.way}: {"part":26} {"forward s":>10} {"kept MB":>9}')
        for part in (*PARTS, 'other'):
            seconds = report.parts.seconds.get(part)
            shown = '' if seconds is None else f'{seconds:.2f}'
            kept = report.parts.kept.get(part, 0) / MILLION
            print(f'{"":{len(report.way) + 1}} {part:26} {shown:>10} {kept:9.0f}')


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        'config', nargs='?', default='configs/_base_/models/sam2_1_tiny.py'
    )
    parser.add_argument(
        '--as-trained',
        action='store_true',
        help="size, frames, objects and precision of the config's own training, "
        'where they are not given here',
    )
    parser.add_argument('--image-size', type=int, help='in pixels (512)')
    parser.add_argument('--num-frames', type=int, help='of the clip (4)')
    parser.add_argument('--num-objects', type=int, help='of the clip (3)')
    parser.add_argument('--prompt', choices=('mask', 'points'), default='mask')
    parser.add_argument('--device', choices=('cpu', 'cuda'), default='cpu')
    parser.add_argument('--dtype', choices=('float32', 'bfloat16'), help='(float32)')
    parser.add_argument('--no-dropout', action='store_true')
    parser.add_argument('--threads', type=int, default=1, help='of torch, on a CPU')
    parser.add_argument(
        '--rounds', type=int, default=3, help='steps of each way; 0: peaks alone'
    )
    parser.add_argument('--ways', nargs='+', choices=WAYS, default=list(WAYS))
    parser.add_argument('--json', type=Path, help='file for figures and ratios')
    parser.add_argument('--peak-of', help=argparse.SUPPRESS)
    return parser.parse_args()


def setting_of(arguments: argparse.Namespace) -> Setting:
    """Combine the command line with the config."""
    sizes = DEFAULTS
    if arguments.as_trained:
        sizes = sizes_of(Config.fromfile(arguments.config))
    return Setting(
        config=arguments.config,
        image_size=arguments.image_size or sizes.image_size,
        num_frames=arguments.num_frames or sizes.num_frames,
        num_objects=arguments.num_objects or sizes.num_objects,
        prompt=arguments.prompt,
        device=arguments.device,
        dtype=arguments.dtype or sizes.dtype,
        dropout=not arguments.no_dropout,
        num_threads=arguments.threads,
    )


def main() -> None:
    """Measure, print tables and write ratios."""
    arguments = parse_arguments()
    if arguments.peak_of is not None:
        job = json.loads(arguments.peak_of)
        setting = Setting(**job['setting'])
        torch.set_num_threads(setting.num_threads)
        peak = measure_peak(setting, job['way'], job['num_steps'])
        print(json.dumps(asdict(peak)))
        return
    setting = setting_of(arguments)
    torch.set_num_threads(setting.num_threads)
    reports = measure(setting, arguments.ways, arguments.rounds)
    show(reports)
    ratio_of = ratios(reports)
    for name, ratio in ratio_of.items():
        print(f'{name}: {ratio:.3f}')
    if arguments.json is not None:
        figures = {
            **ratio_of,
            'setting': asdict(setting),
            'ways': [asdict(r) for r in reports],
        }
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(figures, indent=2), encoding='utf-8')


if __name__ == '__main__':
    main()
