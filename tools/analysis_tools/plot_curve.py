"""Draw J&F over a run: ``python tools/analysis_tools/plot_curve.py RUN [options]``.

``RUN`` is a work folder, one of its time-stamped folders, or a ``scalars.json``; the
parts of a run that was resumed are joined. Several runs share the picture.
"""

import argparse
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

SCORES = ('J&F', 'J', 'F')
COLORS = ('#1f6feb', '#d4572a', '#1a8f5a', '#8f4fd1', '#b0861b', '#5b6470')


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvePoint:
    """Scores of one validation.

    Attributes:
        step: Optimizer steps as last logged before it.
        minutes: Time in training steps up to then, validation not counted.
        scores: Value of each of ``J&F``, ``J`` and ``F`` that was logged.
    """

    step: int
    minutes: float
    scores: dict[str, float]


def find_logs(run: Path) -> list[Path]:
    """Find the logs of a run.

    Args:
        run: A work folder, a time-stamped folder in it, or a ``scalars.json``.

    Returns:
        Files, oldest first.

    Raises:
        FileNotFoundError: If there is none.
    """
    found = [run] if run.is_file() else sorted(run.rglob('vis_data/scalars.json'))
    if not found:
        msg = f'{run}: no vis_data/scalars.json; give the work_dir of a training run'
        raise FileNotFoundError(msg)
    return found


def read_records(logs: Iterable[Path]) -> list[dict[str, Any]]:
    """Read logs; a line that was cut off by the end of a run is left out.

    Args:
        logs: Files with one json object a line.

    Returns:
        The objects, in order.
    """
    parsed = (
        _parsed(line, log) for log in logs for line in log.read_text().splitlines()
    )
    return [record for record in parsed if record is not None]


def _parsed(line: str, log: Path) -> dict[str, Any] | None:
    """The object of a line; None, and a word about it, where it is damaged."""
    try:
        record: dict[str, Any] = json.loads(line)
    except json.JSONDecodeError:
        print(f'{log}: left out a damaged line')
        return None
    return record


def curve_points(records: Iterable[dict[str, Any]]) -> list[CurvePoint]:
    """Make a curve of what MMEngine logged.

    Where a run was resumed from an earlier step, what came after that step before is
    forgotten.

    Args:
        records: Training records (``iter`` and ``time``) and validation records
            (``J&F``), in the order of their lines.

    Returns:
        A point for each validation.
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
            clock.append((step, minutes + (step - before) * record['time'] / 60))
        elif SCORES[0] in record:
            scores = {name: record[name] for name in SCORES if name in record}
            step, minutes = clock[-1]
            points.append(CurvePoint(step=step, minutes=minutes, scores=scores))
    return points


def draw_curves(
    curves: dict[str, Sequence[CurvePoint]],
    baselines: dict[str, float],
    *,
    by_step: bool,
) -> Figure:
    """Draw curves of J&F, with J and F where there is one run alone.

    Args:
        curves: Points by the name of the run.
        baselines: Horizontal lines by name.
        by_step: Draw over steps instead of minutes.

    Returns:
        The figure.
    """
    figure = Figure(figsize=(8, 4.5), layout='constrained')
    axes = figure.subplots()
    for (name, points), color in zip(curves.items(), _cycle(COLORS), strict=False):
        at = [point.step if by_step else point.minutes for point in points]
        if len(curves) == 1:
            _side_scores(axes, at, points, color)
        values = [point.scores['J&F'] for point in points]
        axes.plot(at, values, color=color, linewidth=2.2, marker='o', markersize=4)
        best = max(range(len(values)), key=values.__getitem__)
        axes.annotate(
            f'{name}: best {values[best]:.1f}',
            (at[best], values[best]),
            xytext=(0, 14),
            textcoords='offset points',
            ha='right' if at[best] > max(at) / 2 else 'left',
            color=color,
            weight='bold',
        )
    for name, value in baselines.items():
        axes.axhline(value, color='#5b6470', linestyle='--', linewidth=1.2)
        axes.annotate(
            f'{name} {value:.1f}',
            (0.01, value),
            xycoords=('axes fraction', 'data'),
            xytext=(0, 3),
            textcoords='offset points',
            color='#5b6470',
        )
    axes.set_xlabel('optimizer steps' if by_step else 'minutes of training')
    axes.set_ylabel('J&F')
    axes.margins(y=0.12)
    axes.set_ylim(bottom=0)
    axes.set_xlim(left=0)
    axes.grid(alpha=0.25)
    axes.spines[['top', 'right']].set_visible(False)
    if len(curves) == 1:
        axes.legend(frameon=False, loc='lower right')
    return figure


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

    Returns:
        The picture.

    Raises:
        ValueError: If a run has not been validated.
    """
    parser = argparse.ArgumentParser(description='Draw J&F over a training run.')
    parser.add_argument('runs', nargs='+', type=Path, metavar='RUN')
    parser.add_argument('--out', type=Path, default=Path('curve.png'), help='picture')
    parser.add_argument('--steps', action='store_true', help='steps, not minutes')
    parser.add_argument(
        '--baseline',
        action='append',
        default=[],
        type=_baseline,
        metavar='NAME=VALUE',
        help='a horizontal line, such as copy=29.3; may be repeated',
    )
    options = parser.parse_args(arguments)
    curves: dict[str, Sequence[CurvePoint]] = {}
    for run in options.runs:
        points = curve_points(read_records(find_logs(run)))
        if not points:
            msg = f'{run}: its log holds no J&F; was it validated?'
            raise ValueError(msg)
        curves[_name(run)] = points
    mpl.use('Agg')
    figure = draw_curves(curves, dict(options.baseline), by_step=options.steps)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(options.out, dpi=150)
    print(f'Drew {options.out}')
    drawn: Path = options.out
    return drawn


def _name(run: Path) -> str:
    """Name of a run's curve."""
    return run.resolve().parts[-3] if run.is_file() else run.resolve().name


if __name__ == '__main__':
    main()
