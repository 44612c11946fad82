"""Plot what a run logged: its best metric, any other, the loss or the learning rate.

    python tools/analysis_tools/plot_curve.py work_dirs/sam2_tiny_mose
    python tools/analysis_tools/plot_curve.py RUN OTHER_RUN --metric loss --metric lr

RUN is a work folder, one of its time-stamped folders, or a log: a scalars.json or a
TensorBoard event file. The parts of a resumed run are joined. Several runs share the
figure; each --metric has its own axes. The default metric is `save_best` of the first
run's config, or J&F. For an unknown metric, the error lists those that the run logged.
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
CONFIG = 'config.py'  # written by MMEngine beside scalars.json
EVENT_LOADERS = 'tensorboard.backend.event_processing.event_file_loader'
POSITION = ('iter', 'epoch', 'step')  # of a record: no measurements
COLORS = ('#1f6feb', '#d4572a', '#1a8f5a', '#8f4fd1', '#b0861b', '#5b6470')

LABEL_HEIGHT = 14  # typographic points
MAX_MARKED = 60  # curves with more points have no markers


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvePoint:
    """A point of a curve.

    Attributes:
        step: Optimizer steps; for a validation, those of the training record before it.
        minutes: Time in training steps so far, without validation.
        scores: Values by metric.
    """

    step: int
    minutes: float
    scores: dict[str, float]


def find_logs(run: Path) -> list[Path]:
    """Find the logs of a run, oldest first: ``scalars.json``, else TensorBoard's.

    Raises:
        FileNotFoundError: If there is none.
    """
    if run.is_file():
        return [run]
    for pattern in (SCALARS, EVENTS):
        logs = sorted(path for path in run.rglob(pattern) if path.is_file())
        if logs:
            return logs
    msg = f'{run}: no {SCALARS} or {EVENTS}; give the work_dir of a training run'
    raise FileNotFoundError(msg)


def read_records(logs: Iterable[Path]) -> list[dict[str, Any]]:
    """Read logs: files with a JSON object per line, or TensorBoard event files."""
    records: list[dict[str, Any]] = []
    for log in logs:
        is_events = '.tfevents.' in log.name
        records += _event_records(log) if is_events else _json_records(log)
    return records


def _json_records(log: Path) -> Iterator[dict[str, Any]]:
    """Read JSON lines; skip damaged ones, such as the last line of a killed run."""
    num_damaged = 0
    with log.open(encoding='utf-8-sig', errors='replace') as file:
        for line in filter(str.strip, file):
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                record = None
            if isinstance(record, dict) and _has_finite_position(record):
                yield record
            else:
                num_damaged += 1
    if num_damaged:
        lines = 'a damaged line' if num_damaged == 1 else f'{num_damaged} damaged lines'
        print(f'{log}: skipped {lines}')


def _has_finite_position(record: Mapping[str, Any]) -> bool:
    numbers = [record[name] for name in (*POSITION, 'time') if name in record]
    return all(_is_number(number) and math.isfinite(number) for number in numbers)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _event_records(log: Path) -> Iterator[dict[str, Any]]:
    """Read TensorBoard events; those of one call of MMEngine's hook form a record."""
    # The import takes a second.
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
    """Return the names of all logged metrics."""
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

    If a run was resumed from an earlier step, later points of the first part are
    dropped.

    Args:
        records: Training records (with ``iter`` and ``time``) and validation records,
            in the order of the log.
        metrics: Metrics of the curve; records without the first one give no point.
    """
    clock: list[tuple[int, float]] = [(0, 0.0)]  # (step, minutes) of training records
    points: list[CurvePoint] = []
    for record in records:
        if 'iter' in record:
            step = int(record['iter'])
            while clock[-1][0] >= step and len(clock) > 1:
                clock.pop()
            last_step, minutes = clock[-1]
            points = [point for point in points if point.step <= last_step]
            minutes += (step - last_step) * record.get('time', 0.0) / 60
            clock.append((step, minutes))
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
    """Return the logged metric of ``save_best`` in the run's config, else J&F."""
    logs = find_logs(run)
    config = logs[-1].parent / CONFIG
    if not config.is_file():
        return SCORES[0]
    # The config's custom imports may be missing here and are not needed.
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
    """Plot each metric on its own axes, one below the other."""
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
        # The axis begins at 0, unless values are negative.
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
    """Plot a metric of all runs."""
    shows_j_and_f = metric == SCORES[0] and len(curves) == 1
    for number, (name, points) in enumerate(curves.items()):
        color = COLORS[number % len(COLORS)]
        x = [point.step if by_step else point.minutes for point in points]
        if shows_j_and_f:
            _draw_j_and_f(axes, x, points, color)
        values = [point.scores[metric] for point in points]
        marker = 'o' if len(values) <= MAX_MARKED else ''
        axes.plot(x, values, color=color, linewidth=2.2, marker=marker, markersize=4)
        word, index = _best_value(metric, values)
        axes.plot(x[index], values[index], 'o', color=color, markersize=8)
        # Labels are above the axes, where no curve is; that of the last run is lowest.
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
    if shows_j_and_f:
        axes.legend(frameon=False, loc='lower right')


def _best_value(metric: str, values: Sequence[float]) -> tuple[str, int]:
    """Return the name and the index of the value in the label of a curve."""
    finite = [index for index, value in enumerate(values) if math.isfinite(value)]
    if not finite:
        return 'last', len(values) - 1
    if 'loss' in metric:
        return 'lowest', min(finite, key=values.__getitem__)
    word = 'best' if metric in SCORES else 'highest'
    return word, max(finite, key=values.__getitem__)


def _as_text(metric: str, value: float) -> str:
    return f'{value:.1f}' if metric in SCORES else f'{value:.4g}'


def _draw_j_and_f(
    axes: Axes, x: Sequence[float], points: Sequence[CurvePoint], color: str
) -> None:
    """Plot J and F as thin lines."""
    for name, style in (('J', '-'), ('F', ':')):
        values = [point.scores.get(name, float('nan')) for point in points]
        axes.plot(x, values, style, color=color, alpha=0.55, linewidth=1.2, label=name)


def _baseline(text: str) -> tuple[str, float]:
    """Parse ``name=value``."""
    name, _, value = text.rpartition('=')
    if not name:
        msg = f'expected name=value, such as copy=29.3, but got {text!r}'
        raise argparse.ArgumentTypeError(msg)
    return name, float(value)


def main(arguments: Sequence[str] | None = None) -> Path:
    """Run the tool; return the path of the figure.

    Raises:
        ValueError: If a run did not log a metric.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('runs', nargs='+', type=Path, metavar='RUN')
    parser.add_argument(
        '--out', type=Path, default=Path('curve.png'), help='output (default curve.png)'
    )
    parser.add_argument(
        '--steps', action='store_true', help='plot over steps, not minutes'
    )
    parser.add_argument(
        '--metric',
        nargs='+',
        action='extend',
        metavar='NAME',
        help='metrics, e.g. loss or lr (default: that of save_best, or J&F)',
    )
    parser.add_argument(
        '--baseline',
        action='append',
        default=[],
        type=_baseline,
        metavar='NAME=VALUE',
        help='horizontal line, e.g. copy=29.3; may be repeated',
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
                msg = f'{run}: its log has no {metric}{hint}, only {logged}'
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
    return run.resolve().parts[-3] if run.is_file() else run.resolve().name


if __name__ == '__main__':
    call_tool(main)
