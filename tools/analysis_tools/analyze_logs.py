"""Plot curves of training logs, and measure the time of training steps.

    python tools/analysis_tools/analyze_logs.py plot_curve RUN [RUN …] --keys loss lr
    python tools/analysis_tools/analyze_logs.py cal_train_time RUN [RUN …]

RUN is a work folder, one of its time-stamped folders, or a log: a scalars.json or a
TensorBoard event file. The parts of a resumed run are joined. As in mmsegmentation,
plot_curve may be left out. plot_curve.py is the same program under its older name.
"""

import argparse
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from repository_root import use_repository_root  # type: ignore[import-not-found]

use_repository_root()

from projects.sam2.engine.command_line import call_tool

PLOT, TIME = 'plot_curve', 'cal_train_time'


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochTime:
    """Time of the training steps of an epoch.

    Attributes:
        epoch: Its number, from 1.
        seconds: Mean time of a step.
        data_seconds: The part of it that was spent waiting for data.
    """

    epoch: int
    seconds: float
    data_seconds: float


def epoch_times(
    records: Iterable[Mapping[str, Any]], *, include_outliers: bool = False
) -> list[EpochTime]:
    """Average the logged times by epoch.

    Args:
        records: Training records, in the order of the log.
        include_outliers: Count the first record of each epoch as well, which waits for
            the loader's workers. An epoch with one record keeps it in any case.
    """
    by_epoch: dict[int, list[tuple[float, float]]] = {}
    for record in records:
        if 'time' in record and 'epoch' in record and 'iter' in record:
            pair = (float(record['time']), float(record.get('data_time', 0.0)))
            by_epoch.setdefault(int(record['epoch']), []).append(pair)
    results = []
    for epoch, times in sorted(by_epoch.items()):
        kept = times if include_outliers else times[1:] or times
        steps, waits = zip(*kept, strict=True)
        results.append(
            EpochTime(epoch=epoch, seconds=fmean(steps), data_seconds=fmean(waits))
        )
    return results


def describe_times(name: str, times: Sequence[EpochTime]) -> str:
    """Describe the training time of a run in a few lines."""
    slowest = max(times, key=lambda time: time.seconds)
    fastest = min(times, key=lambda time: time.seconds)
    spread = pstdev([time.seconds for time in times])
    steps = fmean(time.seconds for time in times)
    waits = fmean(time.data_seconds for time in times)
    return '\n'.join(
        [
            f'{name}: {len(times)} epochs',
            f'  slowest epoch {slowest.epoch}: {slowest.seconds:.4f} s a step',
            f'  fastest epoch {fastest.epoch}: {fastest.seconds:.4f} s a step',
            f'  standard deviation over the epochs: {spread:.4f} s',
            f'  mean: {steps:.4f} s a step, {waits:.4f} s of it waiting for data',
        ]
    )


def baseline(text: str) -> tuple[str, float]:
    """Parse ``name=value``."""
    name, _, value = text.rpartition('=')
    if not name:
        msg = f'expected name=value, such as copy=29.3, but got {text!r}'
        raise argparse.ArgumentTypeError(msg)
    return name, float(value)


def add_plot_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of a plot."""
    parser.add_argument('runs', nargs='+', type=Path, metavar='RUN')
    parser.add_argument(
        '--out', type=Path, default=Path('curve.png'), help='output (default curve.png)'
    )
    parser.add_argument(
        '--steps', action='store_true', help='plot over steps, not minutes'
    )
    parser.add_argument(
        '--metric',
        '--keys',
        nargs='+',
        action='extend',
        metavar='NAME',
        help='metrics, e.g. loss or lr (default: that of save_best, or J&F)',
    )
    parser.add_argument(
        '--baseline',
        action='append',
        default=[],
        type=baseline,
        metavar='NAME=VALUE',
        help='horizontal line, e.g. copy=29.3; may be repeated',
    )
    parser.add_argument('--title', default='', help='title of the figure')
    parser.add_argument(
        '--legend', nargs='+', metavar='NAME', help='a name for each run'
    )


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words and words[0] not in {PLOT, TIME, '-h', '--help'}:
        words.insert(0, PLOT)
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    tasks = parser.add_subparsers(dest='task', required=True)
    add_plot_arguments(tasks.add_parser(PLOT, help='plot logged metrics'))
    time = tasks.add_parser(TIME, help='measure the time of training steps')
    time.add_argument('runs', nargs='+', type=Path, metavar='RUN')
    time.add_argument(
        '--include-outliers',
        action='store_true',
        help='count the first logged time of each epoch as well',
    )
    return parser.parse_args(words)


def main(arguments: Sequence[str] | None = None) -> None:
    """Plot curves or print times.

    Raises:
        ValueError: If a run logged no training step.
    """
    options = parse_arguments(arguments)
    if options.task == PLOT:
        from plot_curve import plot  # type: ignore[import-not-found]

        plot(options)
        return
    from projects.sam2.evaluation.run_logs import find_logs, read_records

    for run in options.runs:
        records = read_records(find_logs(run))
        times = epoch_times(records, include_outliers=options.include_outliers)
        if not times:
            msg = f'{run}: its log has no training step with a time'
            raise ValueError(msg)
        print(describe_times(str(run), times))


if __name__ == '__main__':
    call_tool(main)
