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
    Drawing,
    check_clip,
)
from projects.sam2.datasets.processing.sources import (
    DatasetConfig,
    find_drawn,
    find_sources,
    without_pipeline,
)
from projects.sam2.datasets.processing.statistics import (
    SourceSummary,
    failed_source,
    summarize,
)
from projects.sam2.datasets.processing.supervised import Beat, run_supervised

Advance = Callable[[int, int], None]  # called with what is done and what there is


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """A source or a view of one that was built, or why it was not."""

    kind: str
    data_root: str
    dataset: ClipDataset | None = None
    names: tuple[str, ...] = ()
    drawings: tuple[Drawing, ...] = ()
    is_view: bool = False
    problem: str = ''

    @property
    def is_generated(self) -> bool:
        """Whether the first clip stands for all."""
        return getattr(self.dataset, 'is_generated', False)

    def positions(self) -> dict[str, int]:
        """The clips to be looked into, each once, with their positions in the list."""
        names = self.names[:1] if self.is_generated else self.names
        position_of: dict[str, int] = {}
        for position, name in enumerate(names):
            position_of.setdefault(name, position)
        return position_of


def check_dataset(
    config: DatasetConfig,
    *,
    sample: int | None,
    num_workers: int,
    time_limit: float,
    advance: Advance,
    num_epochs: int | None = None,
    seed: int = 0,
) -> list[SourceSummary]:
    """Open every clip of a data set; decode and draw from all of them or a sample.

    Args:
        config: Of a data set of any kind. Its sources are decoded; where it has
            pipelines, its clips are drawn through them as in training.
        sample: Clips of each source to decode, chosen at random, every time the same;
            None for all.
        num_workers: Processes.
        time_limit: Seconds that a frame may take.
        advance: Called after each clip.
        num_epochs: Of the run: how clips are drawn may change with the epoch. None
            where that is not known.
        seed: Of the run.

    Returns:
        What each source holds and what is wrong with it. A view (every n-th frame, one
        object at a time) that has a pipeline is summed up beside its source.

    Raises:
        ValueError: If ``sample`` is negative.
    """
    if sample is not None and sample < 0:
        msg = f'{sample} clips are no sample; give 0 or more, or None for all'
        raise ValueError(msg)
    open_source = partial(_open, num_epochs=num_epochs, seed=seed)
    drawn, configs = find_drawn(config), find_sources(config)
    sources = [
        open_source(each, [d for d in drawn if without_pipeline(d) == each])
        for each in configs
    ]
    views = [
        open_source(each, [each], is_view=True)
        for each in drawn
        if without_pipeline(each) not in configs
    ]
    told = {source.problem for source in sources if source.problem}
    sources += [view for view in views if view.problem not in told]
    tasks = [
        task for i, source in enumerate(sources) for task in _tasks(i, source, sample)
    ]
    reports: dict[ClipTask, ClipReport] = {}
    work = partial(_check, sources)
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
    ordered = [(name, report_of[name]) for name in source.positions()]
    summary = summarize(source.kind, source.data_root, ordered)
    if not source.is_generated:
        return summary
    return replace(summary, num_clips=len(source.names), is_generated=True)


def _open(
    config: DatasetConfig,
    drawn: Sequence[DatasetConfig],
    *,
    num_epochs: int | None,
    seed: int,
    is_view: bool = False,
) -> _Source:
    """Build a source, list its clips, and build the data sets that draw from them."""
    kind = config['type']
    name = kind if isinstance(kind, str) else kind.__name__
    data_root = str(config.get('data_root') or '')
    try:
        drawings = [
            Drawing(dataset=DATASETS.build(each), num_epochs=num_epochs, seed=seed)
            for each in drawn
        ]
        # What is drawn from is the source itself, or a view that lists its clips.
        dataset = drawings[0].dataset if drawings else DATASETS.build(config)
        names = tuple(dataset.list_videos())
    except (OSError, ValueError) as error:
        return _Source(kind=name, data_root=data_root, problem=str(error))
    return _Source(
        kind=name,
        data_root=data_root,
        dataset=dataset,
        names=names,
        drawings=tuple(drawings),
        is_view=is_view,
    )


def _tasks(number: int, source: _Source, sample: int | None) -> list[ClipTask]:
    """A task for each clip, once."""
    position_of = source.positions()
    names = list(position_of)
    sampled = set(names)
    if sample is not None and sample < len(names):
        order = np.random.default_rng(0).permutation(len(names))[:sample]
        sampled = {names[i] for i in order.tolist()}
    return [
        ClipTask(
            source=number,
            name=name,
            index=index,
            decode=name in sampled and not source.is_view,
            draw=name in sampled,
        )
        for name, index in position_of.items()
    ]


def _check(sources: Sequence[_Source], task: ClipTask, beat: Beat) -> ClipReport:
    source = sources[task.source]
    if source.dataset is None:
        msg = f'{source.kind} was not built: {source.problem}'
        raise RuntimeError(msg)
    drawings = source.drawings if task.draw else ()
    return check_clip(
        source.dataset,
        task.name,
        decode=task.decode,
        beat=beat,
        draws=[partial(drawing.problem_of, task.index) for drawing in drawings],
    )
