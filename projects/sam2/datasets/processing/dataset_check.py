"""Checks the clips of sources, side by side in several processes."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from mmengine.registry import DATASETS

from projects.sam2.datasets.clip_dataset import ClipDataset
from projects.sam2.datasets.processing.checking import (
    ClipReport,
    ClipTask,
    check_clip,
)
from projects.sam2.datasets.processing.sources import DatasetConfig
from projects.sam2.datasets.processing.statistics import (
    SourceSummary,
    failed_source,
    summarize,
)
from projects.sam2.datasets.processing.supervised import Beat, run_supervised

Advance = Callable[[int, int], None]  # called with what is done and what there is


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """A source that was built, or why it was not."""

    kind: str
    data_root: str
    dataset: ClipDataset | None = None
    names: tuple[str, ...] = ()
    problem: str = ''


def check_sources(
    configs: Sequence[DatasetConfig],
    *,
    sample: int | None,
    num_workers: int,
    time_limit: float,
    advance: Advance,
) -> list[SourceSummary]:
    """Open every clip of some sources, and decode all of them or a sample.

    Args:
        configs: Of the sources.
        sample: Clips of each source to decode, chosen at random, every time the same;
            None for all.
        num_workers: Processes.
        time_limit: Seconds that a frame may take.
        advance: Called after each clip.

    Returns:
        What each source holds and what is wrong with it.
    """
    sources = [_open(config) for config in configs]
    tasks = [
        task for i, source in enumerate(sources) for task in _tasks(i, source, sample)
    ]
    datasets = {i: source.dataset for i, source in enumerate(sources) if source.dataset}
    reports: dict[ClipTask, ClipReport] = {}
    work = partial(_check, datasets)
    for outcome in run_supervised(
        tasks, work, num_workers=num_workers, time_limit=time_limit
    ):
        problem = f'cannot be checked: {outcome.problem}'
        reports[outcome.task] = outcome.result or ClipReport(problems=(problem,))
        advance(len(reports), len(tasks))
    return [
        _summarize(source, {t: r for t, r in reports.items() if t.source == i})
        for i, source in enumerate(sources)
    ]


def _summarize(
    source: _Source, reports: Mapping[ClipTask, ClipReport]
) -> SourceSummary:
    """Sum up a source, clips in the order of its list."""
    if source.problem:
        return failed_source(source.kind, source.data_root, source.problem)
    report_of = {task.name: report for task, report in reports.items()}
    for name, count in Counter(source.names).items():
        if count > 1:
            problems = (*report_of[name].problems, f'is listed {count} times')
            report_of[name] = replace(report_of[name], problems=problems)
    ordered = [(name, report_of[name]) for name in dict.fromkeys(source.names)]
    return summarize(source.kind, source.data_root, ordered)


def _open(config: DatasetConfig) -> _Source:
    """Build a source and list its clips."""
    kind = config['type']
    name = kind if isinstance(kind, str) else kind.__name__
    data_root = str(config.get('data_root') or '')
    try:
        dataset: ClipDataset = DATASETS.build(config)
        names = tuple(dataset.list_videos())
    except (OSError, ValueError) as error:
        return _Source(kind=name, data_root=data_root, problem=str(error))
    return _Source(kind=name, data_root=data_root, dataset=dataset, names=names)


def _tasks(number: int, source: _Source, sample: int | None) -> list[ClipTask]:
    """A task for each clip, once."""
    names = list(dict.fromkeys(source.names))
    decoded = set(names)
    if sample is not None and sample < len(names):
        order = np.random.default_rng(0).permutation(len(names))[:sample]
        decoded = {names[i] for i in order.tolist()}
    return [
        ClipTask(source=number, name=name, decode=name in decoded) for name in names
    ]


def _check(
    datasets: Mapping[int, ClipDataset], task: ClipTask, beat: Beat
) -> ClipReport:
    return check_clip(datasets[task.source], task.name, decode=task.decode, beat=beat)
