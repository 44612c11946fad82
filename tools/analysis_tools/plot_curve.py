"""Draw what a run logged: its best metric, any other, the loss or the learning rate.

    python tools/analysis_tools/plot_curve.py work_dirs/sam2_tiny_mose
    python tools/analysis_tools/plot_curve.py RUN OTHER_RUN --metric loss --metric lr

RUN is a work folder, one of its time-stamped folders, or a log: a scalars.json or a
file of TensorBoard's events. The parts of a run that was resumed are joined. Several
runs share the picture; each --metric has a diagram of its own. Without one it is what
`save_best` of the first run's config names, or else J&F. A name that a run has not
logged is answered with those that it has.
"""

import argparse
import json
import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from mmengine.config import Config

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from repository_root import use_repository_root  # type: ignore[import-not-found]

use_repository_root()

from projects.sam2.engine.command_line import call_tool

SCORES = ('J&F', 'J', 'F')
SCALARS, EVENTS = 'vis_data/scalars.json', 'vis_data/events.out.tfevents.*'
CONFIG = 'config.py'  # of a run, which MMEngine writes beside scalars.json
EVENT_LOADERS = 'tensorboard.backend.event_processing.event_file_loader'
POSITION = ('iter', 'epoch', 'step')  # where a record stands, and no measurement
COLORS = ('#1f6feb', '#d4572a', '#1a8f5a', '#8f4fd1', '#b0861b', '#5b6470')

LABEL_HEIGHT = 14  # points between the labels of two runs
MAX_MARKED = 60  # points of a curve up to which each has a mark


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvePoint:
    """Values of one record of the log.

    Attributes:
        step: Optimizer steps: of a record of training its own, of a validation those
            last logged before it.
        minutes: Time in training steps up to then, validation not counted.
        scores: Value of each metric that was asked for and logged.
    """

    step: int
    minutes: float
    scores: dict[str, float]


def find_logs(run: Path) -> list[Path]:
    """Find the logs of a run.

    Returns:
        Files, oldest first: ``scalars.json``, or where there is none TensorBoard's.

    Raises:
        FileNotFoundError: If there is none.
    """
    if run.is_file():
        return [run]
    for pattern in (SCALARS, EVENTS):
        found = sorted(path for path in run.rglob(pattern) if path.is_file())
        if found:
            return found
    msg = f'{run}: no {SCALARS} or {EVENTS}; give the work_dir of a training run'
    raise FileNotFoundError(msg)


def read_records(logs: Iterable[Path]) -> list[dict[str, Any]]:
    """Read logs; a line that was cut off by the end of a run is left out.

    Args:
        logs: Files with one json object a line, or with TensorBoard's events.
    """
    records: list[dict[str, Any]] = []
    for log in logs:
        is_events = '.tfevents.' in log.name
        records += _event_records(log) if is_events else _json_records(log)
    return records


def _json_records(log: Path) -> Iterator[dict[str, Any]]:
    """The objects of a file; a word about lines that are damaged."""
    num_damaged = 0
    with log.open(encoding='utf-8-sig', errors='replace') as file:
        for line in filter(str.strip, file):
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                record = None
            if isinstance(record, dict) and _is_placed(record):
                yield record
            else:
                num_damaged += 1
    if num_damaged:
        lines = 'a damaged line' if num_damaged == 1 else f'{num_damaged} damaged lines'
        print(f'{log}: left out {lines}')


def _is_placed(record: Mapping[str, Any]) -> bool:
    """Whether the numbers that place a record, if it has them, are numbers."""
    numbers = [record[name] for name in (*POSITION, 'time') if name in record]
    return all(_is_number(number) and math.isfinite(number) for number in numbers)


def _is_number(value: object) -> bool:
    """Whether a value can be drawn."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _event_records(log: Path) -> Iterator[dict[str, Any]]:
    """TensorBoard's events, those of one call of MMEngine's hook together."""
    # Imported here: it takes a second.
    loaders: Any = import_module(EVENT_LOADERS)

    record: dict[str, Any] = {}
    step = None
    for event in loaders.LegacyEventFileLoader(str(log)).Load():
        for value in event.summary.value:
            if not value.HasField('simple_value'):
                continue
            if record and (event.step != step or value.tag in record):
                yield record
                record = {}
            step = event.step
            record[value.tag] = value.simple_value
    if record:
        yield record


def metrics_of(records: Iterable[Mapping[str, Any]]) -> list[str]:
    """Names of what can be drawn."""
    names = {
        name
        for record in records
        for name, value in record.items()
        if _is_number(value) and name not in POSITION
    }
    return sorted(names)


def curve_points(
    records: Iterable[dict[str, Any]], metrics: Sequence[str] = SCORES
) -> list[CurvePoint]:
    """Make a curve of what MMEngine logged.

    Where a run was resumed from an earlier step, what came after that step before is
    forgotten.

    Args:
        records: Training records (with ``iter`` and ``time``) and validation records,
            in the order of their lines.
    """
    clock: list[tuple[int, float]] = [(0, 0.0)]
    points: list[CurvePoint] = []
    for record in records:
        if 'iter' in record:
            step = int(record['iter'])
            while clock[-1][0] >= step and len(clock) > 1:
                clock.pop()
            before, minutes = clock[-1]
            points = [point for point in points if point.step <= before]
            passed = (step - before) * record.get('time', 0.0) / 60
            clock.append((step, minutes + passed))
        if _is_number(record.get(metrics[0])):
            scores = {
                name: float(record[name])
                for name in metrics
                if _is_number(record.get(name))
            }
            step, minutes = clock[-1]
            points.append(CurvePoint(step=step, minutes=minutes, scores=scores))
    return points


def default_metric(run: Path) -> str:
    """Choose the metric by which a run keeps its best checkpoint.

    Args:
        run: As of :func:`find_logs`.

    Returns:
        What ``save_best`` of the config beside the log names, if it was logged; or
        else J&F.
    """
    logs = find_logs(run)
    config = logs[-1].parent / CONFIG
    if not config.is_file():
        return SCORES[0]
    # The modules that the config imports are not needed to read it.
    cfg = Config.fromfile(config, import_custom_modules=False)
    best = ((cfg.get('default_hooks') or {}).get('checkpoint') or {}).get('save_best')
    names = [best] if isinstance(best, str) else list(best or ())
    logged = metrics_of(read_records(logs))
    return next((name for name in names if name in logged), SCORES[0])


def draw_metrics(
    metrics: Mapping[str, Mapping[str, Sequence[CurvePoint]]],
    baselines: Mapping[str, float],
    *,
    by_step: bool,
) -> Figure:
    """Draw a diagram for each metric, one below the other."""
    figure = Figure(figsize=(8, 4.5 * len(metrics)), layout='constrained')
    rows = figure.subplots(len(metrics), squeeze=False)[:, 0]
    for axes, (metric, curves) in zip(rows, metrics.items(), strict=True):
        _draw_metric(axes, metric, curves, by_step=by_step)
        for name, value in baselines.items() if axes is rows[0] else ():
            axes.axhline(value, color='#5b6470', linestyle='--', linewidth=1.2)
            axes.annotate(
                f'{name} {value:.1f}',
                (1, value),
                xycoords=('axes fraction', 'data'),
                xytext=(4, 0),
                textcoords='offset points',
                va='center',
                color='#5b6470',
            )
        # A score below nothing, or a loss that is negative, is shown whole.
        if axes.get_ylim()[1] > 0 and axes.dataLim.ymin >= 0:
            axes.set_ylim(bottom=0)
    return figure


def _draw_metric(
    axes: Axes,
    metric: str,
    curves: Mapping[str, Sequence[CurvePoint]],
    *,
    by_step: bool,
) -> None:
    """Draw the curves of a metric."""
    has_sides = metric == SCORES[0] and len(curves) == 1
    colors = _cycle(COLORS)
    for number, (name, points) in enumerate(curves.items()):
        color = colors[number]
        at = [point.step if by_step else point.minutes for point in points]
        if has_sides:
            _side_scores(axes, at, points, color)
        values = [point.scores[metric] for point in points]
        marker = 'o' if len(values) <= MAX_MARKED else ''
        axes.plot(at, values, color=color, linewidth=2.2, marker=marker, markersize=4)
        word, index = _notable(metric, values)
        axes.plot(at[index], values[index], 'o', color=color, markersize=8)
        # Above the diagram, where no curve is; the last run stands lowest.
        row = len(curves) - 1 - number
        axes.annotate(
            f'{name}: {word} {_as_text(metric, values[index])}',
            (0, 1),
            xycoords='axes fraction',
            xytext=(0, 6 + LABEL_HEIGHT * row),
            textcoords='offset points',
            color=color,
            weight='bold',
        )
    axes.set_xlabel('optimizer steps' if by_step else 'minutes of training')
    axes.set_ylabel(metric)
    axes.margins(y=0.12)
    axes.set_xlim(left=0)
    axes.grid(alpha=0.25)
    axes.spines[['top', 'right']].set_visible(False)
    if has_sides:
        axes.legend(frameon=False, loc='lower right')


def _notable(metric: str, values: Sequence[float]) -> tuple[str, int]:
    """Which value of a curve is written beside it, and what it is called."""
    finite = [index for index, value in enumerate(values) if math.isfinite(value)]
    if not finite:
        return 'last', len(values) - 1
    if 'loss' in metric:
        return 'lowest', min(finite, key=values.__getitem__)
    word = 'best' if metric in SCORES else 'highest'
    return word, max(finite, key=values.__getitem__)


def _as_text(metric: str, value: float) -> str:
    """A value beside its curve."""
    return f'{value:.1f}' if metric in SCORES else f'{value:.4g}'


def _side_scores(
    axes: Axes, at: Sequence[float], points: Sequence[CurvePoint], color: str
) -> None:
    """Thin lines of J and F."""
    for name, style in (('J', '-'), ('F', ':')):
        values = [point.scores.get(name, float('nan')) for point in points]
        axes.plot(at, values, style, color=color, alpha=0.55, linewidth=1.2, label=name)


def _cycle(colors: Sequence[str]) -> list[str]:
    """Enough colours for a hundred runs."""
    return list(colors) * (100 // len(colors) + 1)


def _baseline(text: str) -> tuple[str, float]:
    """Read ``name=value``."""
    name, _, value = text.rpartition('=')
    if not name:
        msg = f'expected name=value, such as copy=29.3, but got {text!r}'
        raise argparse.ArgumentTypeError(msg)
    return name, float(value)


def main(arguments: Sequence[str] | None = None) -> Path:
    """Draw as the command line says.

    Args:
        arguments: Words after the program's name; None takes those of the process.

    Raises:
        ValueError: If a run did not log a metric.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('runs', nargs='+', type=Path, metavar='RUN')
    parser.add_argument('--out', type=Path, default=Path('curve.png'), help='picture')
    parser.add_argument('--steps', action='store_true', help='steps, not minutes')
    parser.add_argument(
        '--metric',
        nargs='+',
        action='extend',
        metavar='NAME',
        help='what to draw, e.g. loss or lr (default: what save_best names, or J&F)',
    )
    parser.add_argument(
        '--baseline',
        action='append',
        default=[],
        type=_baseline,
        metavar='NAME=VALUE',
        help='a horizontal line, such as copy=29.3; may be repeated',
    )
    options = parser.parse_args(arguments)
    metrics: dict[str, dict[str, Sequence[CurvePoint]]] = {
        name: {} for name in options.metric or (default_metric(options.runs[0]),)
    }
    for run in options.runs:
        records = read_records(find_logs(run))
        for metric, curves in metrics.items():
            names = SCORES if metric == SCORES[0] else (metric,)
            points = curve_points(records, names)
            if not points:
                logged = ', '.join(metrics_of(records)) or 'nothing'
                hint = ' (was it validated?)' if metric in SCORES else ''
                msg = f'{run}: its log holds no {metric}{hint}, but {logged}'
                raise ValueError(msg)
            curves[_name(run)] = points
    mpl.use('Agg')
    figure = draw_metrics(metrics, dict(options.baseline), by_step=options.steps)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(options.out, dpi=150)
    print(f'Drew {options.out}')
    drawn: Path = options.out
    return drawn


def _name(run: Path) -> str:
    """Name of a run's curve."""
    return run.resolve().parts[-3] if run.is_file() else run.resolve().name


if __name__ == '__main__':
    call_tool(main)
