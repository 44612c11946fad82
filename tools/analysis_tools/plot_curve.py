"""Plot what a run logged: its best metric, any other, the loss or the learning rate.

    python tools/analysis_tools/plot_curve.py work_dirs/sam2_tiny_mose
    python tools/analysis_tools/plot_curve.py RUN OTHER_RUN --metric loss --metric lr

RUN is a work folder, one of its time-stamped folders, or a log: a scalars.json or a
TensorBoard event file. The parts of a resumed run are joined. Several runs share the
figure; each --metric has its own axes. The default metric is `save_best` of the first
run's config, or J&F. For an unknown metric, the error lists those that the run logged.
"""

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from repository_root import use_repository_root  # type: ignore[import-not-found]

use_repository_root()

from analyze_logs import add_plot_arguments  # type: ignore[import-not-found]

from projects.sam2.engine.command_line import call_tool
from projects.sam2.evaluation.run_logs import (
    SCORES,
    CurvePoint,
    curve_points,
    default_metric,
    find_logs,
    metrics_of,
    read_records,
)
from projects.sam2.ops import atomic_write

COLORS = ('#1f6feb', '#d4572a', '#1a8f5a', '#8f4fd1', '#b0861b', '#5b6470')

LABEL_HEIGHT = 14  # typographic points
MAX_MARKED = 60  # curves with more points have no markers


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


def main(arguments: Sequence[str] | None = None) -> Path:
    """Run the tool; return the path of the figure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_plot_arguments(parser)
    return plot(parser.parse_args(arguments))


def plot(options: argparse.Namespace) -> Path:
    """Draw the figure; return its path.

    Raises:
        ValueError: If a run did not log a metric, or has no name of its own.
    """
    names = options.legend or _names(options.runs)
    if len(set(names)) != len(options.runs):
        msg = f'--legend {" ".join(names)}: give {len(options.runs)} different names'
        raise ValueError(msg)
    metrics: dict[str, dict[str, Sequence[CurvePoint]]] = {
        name: {} for name in options.metric or (default_metric(options.runs[0]),)
    }
    for name, run in zip(names, options.runs, strict=True):
        records = read_records(find_logs(run))
        for metric, curves in metrics.items():
            fields = SCORES if metric == SCORES[0] else (metric,)
            points = curve_points(records, fields)
            if not points:
                logged = ', '.join(metrics_of(records)) or 'nothing'
                hint = ' (was it validated?)' if metric in SCORES else ''
                msg = f'{run}: its log has no {metric}{hint}, only {logged}'
                raise ValueError(msg)
            curves[name] = points
    mpl.use('Agg')
    figure = draw_metrics(metrics, dict(options.baseline), by_step=options.steps)
    if options.title:
        figure.suptitle(options.title)
    with atomic_write(options.out) as partial:
        figure.savefig(partial, dpi=150)
    print(f'Drew {options.out}')
    drawn: Path = options.out
    return drawn


def _names(runs: Sequence[Path]) -> list[str]:
    """Names of the runs; their paths, where two have the same name."""
    names = [_name(run) for run in runs]
    return [
        str(run) if names.count(name) > 1 else name
        for name, run in zip(names, runs, strict=True)
    ]


def _name(run: Path) -> str:
    return run.resolve().parts[-3] if run.is_file() else run.resolve().name


if __name__ == '__main__':
    call_tool(main)
