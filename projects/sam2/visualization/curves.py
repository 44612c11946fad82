"""Curves of a run as SVG, for a page that may be light or dark.

Long curves are averaged to a few hundred points: a screen shows no more, and the page
stays small.
"""

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import cycle
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Readable on white and on black.
PALETTE = ('#2f81f7', '#e3742f', '#2da44e', '#a371f7', '#c69026', '#db61a2')
INK = '#010203'  # replaced by the colour of the page's text
MAX_POINTS = 400  # of a curve
MAX_SPARK_POINTS = 60
SETTINGS: Any = {
    'svg.fonttype': 'none',  # text stays text, in the font of the page
    'svg.hashsalt': 'mmsam2',  # the same ids in each run
    'font.family': 'sans-serif',
    'font.size': 9.5,
    'text.color': INK,
    'axes.edgecolor': INK,
    'axes.labelcolor': INK,
    'xtick.color': INK,
    'ytick.color': INK,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """Values over the steps of a run."""

    name: str
    steps: Sequence[float]
    values: Sequence[float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """A figure with one or several curves.

    Attributes:
        title: Written above.
        curves: The first one has the thickest line.
        baselines: Values of horizontal lines, by name.
        marks_best: Mark the largest value of the first curve.
        is_log: Use a logarithmic axis if the values are positive and span decades.
    """

    title: str
    curves: Sequence[Curve]
    baselines: Mapping[str, float] = field(default_factory=dict)
    marks_best: bool = False
    is_log: bool = False


def draw_panel(panel: Panel, *, size: tuple[float, float] = (5.6, 3.0)) -> str:
    """Draw a panel as an ``<svg>`` element without external references.

    Args:
        size: Width and height in inches of 96 pixels; the page may scale it.
    """
    with mpl.rc_context(SETTINGS):
        figure = Figure(figsize=size, layout='constrained')
        _draw(figure.subplots(), panel)
        file = io.StringIO()
        metadata = dict.fromkeys(('Date', 'Creator', 'Format', 'Type'))
        figure.savefig(file, format='svg', transparent=True, metadata=metadata)
    svg = file.getvalue()
    svg = svg[svg.index('<svg') :]
    svg = re.sub(r'<metadata>.*?</metadata>', '', svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(:xlink)?="[^"]*"', '', svg)  # HTML knows both
    svg = svg.replace('xlink:href', 'href').replace(INK, 'currentColor')
    svg = re.sub(r'font: ([\d.]+)px [^;\"]*', r'font-size: \1px', svg)
    label = f'role="img" aria-label="{escape(panel.title)}"'
    return svg.replace('<svg', f'<svg {label}', 1)


def _draw(axes: Axes, panel: Panel) -> None:
    colors = cycle(PALETTE)
    for index, (curve, color) in enumerate(zip(panel.curves, colors, strict=False)):
        few = len(curve.steps) <= 30
        axes.plot(
            thin(curve.steps, MAX_POINTS),
            thin(curve.values, MAX_POINTS),
            color=color,
            linewidth=1.2 if index else 2.2,
            alpha=0.8 if index else 1,
            marker='o' if few else '',
            markersize=2.5 if index else 4,
            label=curve.name,
        )
    for (name, value), style in zip(
        panel.baselines.items(), cycle(['--', ':', '-.']), strict=False
    ):
        label = f'{name}, {value:.1f}'
        axes.axhline(value, color=INK, linestyle=style, linewidth=1, label=label)
    if panel.marks_best:
        _mark_best(axes, panel.curves[0])
    axes.margins(0.02, 0.12)
    if panel.is_log and _spans_decades(panel.curves):
        axes.set_yscale('log')
    else:
        axes.ticklabel_format(axis='y', scilimits=(-3, 4), useMathText=True)
        if axes.dataLim.ymin >= 0:
            axes.set_ylim(0, 1.12 * axes.dataLim.ymax or 1)
    axes.set_xlim(left=0)
    axes.set_xlabel('training step')
    axes.grid(color=INK, alpha=0.12, linewidth=0.8)
    axes.spines[['top', 'right']].set_visible(False)
    axes.spines[['left', 'bottom']].set_alpha(0.4)
    axes.tick_params(length=0)
    if len(panel.curves) + len(panel.baselines) > 1:
        legend = axes.legend(
            loc='lower left',
            bbox_to_anchor=(0, 1),
            ncols=5,
            frameon=False,
            borderaxespad=0,
            handlelength=1.3,
            columnspacing=1.0,
        )
        legend.set_in_layout(True)


def _spans_decades(curves: Sequence[Curve]) -> bool:
    values = [value for curve in curves for value in curve.values]
    return min(values) > 0 and max(values) > 30 * min(values)


def _mark_best(axes: Axes, curve: Curve) -> None:
    """Write the largest value beside its point."""
    best = max(range(len(curve.values)), key=curve.values.__getitem__)
    step, value = curve.steps[best], curve.values[best]
    is_right = step > max(curve.steps) / 2
    axes.annotate(
        f'{value:.1f}',
        (step, value),
        xytext=(-4 if is_right else 4, 5),
        textcoords='offset points',
        ha='right' if is_right else 'left',
        weight='bold',
    )


def sparkline(values: Sequence[float], *, width: int = 120, height: int = 22) -> str:
    """Draw values in [0, 1] as a small line without axes, an ``<svg>`` element."""
    if not values:
        return ''
    values = thin(values, MAX_SPARK_POINTS)
    step = (width - 2) / max(len(values) - 1, 1)
    points = ' '.join(
        f'{1 + index * step:.1f},{1 + (1 - value) * (height - 2):.1f}'
        for index, value in enumerate(values)
    )
    return (
        f'<svg class="spark" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" aria-hidden="true">'
        f'<polyline points="{points}"/></svg>'
    )


def thin(values: Sequence[float], max_points: int) -> Sequence[float]:
    """Average neighbouring values, so that at most ``max_points`` are left."""
    if len(values) <= max_points:
        return values
    groups = np.array_split(np.asarray(values, dtype=float), max_points)
    return [float(group.mean()) for group in groups]
