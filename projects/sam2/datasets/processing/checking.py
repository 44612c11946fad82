"""Finds the sources of clips in a config: whatever is wrapped around them."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.registry import DATASETS
from mmengine.utils import get_object_from_string

from ...structures import FrameMasks, VideoSource
from ...structures.clip import EpochIndex
from ..annotated_video import void_note
from ..clip_dataset import ClipDataset
from ..io.errors import ClipDataError
from ..transforms.sampling import ClipSampleFrames
from .worker_pool import Heartbeat, run_tasks

DatasetConfig = dict[str, Any]


def dataset_config(cfg: Config | Mapping[str, Any], loader: str) -> DatasetConfig:
    """Take the config of a data set out of a config file.

    Args:
        cfg: Config of a run, with loaders; or a file with ``dataset``; or one that is
            a data set itself, with ``type``.
        loader: ``train``, ``val`` or ``test``.

    Returns:
        The data set's config.

    Raises:
        ValueError: If there is none.
    """
    name = f'{loader}_dataloader'
    if isinstance(cfg.get(name), Mapping) and 'dataset' in cfg[name]:
        return dict(cfg[name]['dataset'])
    if isinstance(cfg.get('dataset'), Mapping):
        return dict(cfg['dataset'])
    if 'type' in cfg:
        return dict(cfg.items())
    others = [key for key in cfg if key.endswith('_dataloader') and cfg[key]]
    msg = (
        f'The config has neither {name}.dataset nor dataset (loaders: '
        f'{", ".join(others) or "none"}); give another config or loader'
    )
    raise ValueError(msg)


def find_sources(config: Mapping[str, Any]) -> list[DatasetConfig]:
    """Find the sources of a data set: the innermost that list and open videos.

    Concatenations, repetitions, strides and single objects are views of their files.

    Raises:
        ValueError: If there is none, or a member of a concatenation has none.
    """
    found = _sources_below(config)
    if not found:
        kinds, part = [config.get('type')], config.get('dataset')
        while isinstance(part, Mapping):
            kinds, part = [*kinds, part.get('type')], part.get('dataset')
        msg = (
            f'{" of ".join(map(str, kinds))} lists no clips: check how the type is '
            f'spelt, and give a data set with list_videos and open_video'
        )
        raise ValueError(msg)
    return [each for i, each in enumerate(found) if each not in found[:i]]


def find_drawn(config: Mapping[str, Any]) -> list[DatasetConfig]:
    """Find the data sets that draw clips: the outermost that pass them to a pipeline.

    Returns:
        Their configs, pipelines included, each once; none where whole videos are read.
    """
    if config.get('pipeline') and _lists_clips(config.get('type'), 'load_clip'):
        return [dict(config)]
    parts = [config.get('dataset'), *config.get('datasets', ())]
    found = [d for p in parts if isinstance(p, Mapping) for d in find_drawn(p)]
    return [each for i, each in enumerate(found) if each not in found[:i]]


def without_pipeline(config: Mapping[str, Any]) -> DatasetConfig:
    """The config of a source as :func:`find_sources` returns it."""
    return {key: value for key, value in config.items() if key != 'pipeline'}


def _sources_below(config: Mapping[str, Any]) -> list[DatasetConfig]:
    inner = config.get('dataset')
    found = _sources_below(inner) if isinstance(inner, Mapping) else []
    for part in config.get('datasets', ()):
        found += find_sources(part)
    if found or not _lists_clips(config.get('type')):
        return found
    return [without_pipeline(config)]


def _lists_clips(kind: object, *methods: str) -> bool:
    """Whether a type, or the name of one, lists and opens clips."""
    if isinstance(kind, str):
        # Two dots are the path of a class, one is a scope: of foreign data sets, which
        # the adapter that holds them imports.
        is_path = kind.count('.') > 1
        name = kind.rpartition('.')[2]
        kind = (
            get_object_from_string(kind) if is_path else DATASETS.module_dict.get(name)
        )
    return all(hasattr(kind, each) for each in ('list_videos', 'open_video', *methods))


MAX_PROBLEMS = 10  # of a clip that are told one by one


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipTask:
    """A clip to be looked into.

    Attributes:
        source: Number of its source.
        name: Of the clip.
        index: Position of the clip in the source's list.
        decode: Decode all frames and masks, not only list its files.
        draw: Draw from the clip as training does.
    """

    source: int
    name: str
    index: int
    decode: bool
    draw: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """How training draws from the clips of a data set.

    Attributes:
        dataset: The data set with its pipeline.
        num_epochs: Of the run; None where that is not known.
        seed: Of the run.
    """

    dataset: ClipDataset
    num_epochs: int | None = None
    seed: int = 0

    def problem_of(self, index: int) -> str | None:
        """Draw from a clip as training does, in each epoch that draws differently.

        Returns:
            Why training cannot use the clip; None where it can.
        """
        samplers = [
            transform
            for transform in self.dataset.pipeline.transforms
            if isinstance(transform, ClipSampleFrames)
        ]
        epochs = {0, *(e for each in samplers for e in each.epochs_of_change)}
        for epoch in sorted(epochs):
            if self.num_epochs is not None and epoch >= self.num_epochs:
                break
            try:
                self.dataset.load_clip(EpochIndex(index, epoch, self.seed))
            except ClipDataError as error:
                begun = f' after {epoch} epochs' if epoch else ''
                return f'training cannot use it{begun}: {error}'
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectReport:
    """An object of a clip.

    Attributes:
        num_frames: Annotated frames that show it.
        mean_area: Share of the frame that it covers, where it is seen.
        is_late: The first annotated frame does not show it.
    """

    num_frames: int
    mean_area: float
    is_late: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipReport:
    """What was found in a clip.

    Attributes:
        num_frames: Frames; 0 where the clip cannot be opened.
        num_annotated: Those with ground truth.
        decoded: Whether it was decoded; what follows is empty otherwise.
        sizes: Heights and widths of its frames.
        objects: Objects that at least one frame shows.
        problems: What is wrong, each with its file.
    """

    num_frames: int = 0
    num_annotated: int = 0
    decoded: bool = False
    sizes: tuple[tuple[int, int], ...] = ()
    objects: tuple[ObjectReport, ...] = ()
    problems: tuple[str, ...] = ()


@dataclass(slots=True, kw_only=True)
class _Tally:
    """Counts over the frames of a clip."""

    sizes: set[tuple[int, int]] = field(default_factory=set)
    areas: dict[int, list[float]] = field(default_factory=dict)
    first_seen: dict[int, int] = field(default_factory=dict)
    messages: dict[str, tuple[str, int]] = field(default_factory=dict)

    def note(self, problem: str) -> None:
        """Note what is wrong: ``<file or frame>: <message>``, or a message alone."""
        message = problem.partition(': ')[2] or problem
        first, count = self.messages.get(message, (problem, 0))
        self.messages[message] = first, count + 1

    @property
    def problems(self) -> tuple[str, ...]:
        """Each message once, with the first file or frame that it is about."""
        told = [
            f'{first} (and on {count - 1} more frames)' if count > 1 else first
            for first, count in self.messages.values()
        ]
        return shorten(told)

    def add(self, frame_index: int, masks: FrameMasks) -> None:
        """Count the objects of a frame."""
        if len(set(masks.object_ids)) < len(masks.object_ids):
            self.note(f'frame {frame_index}: has an object id twice')
        shares = masks.masks.mean(axis=(1, 2)).tolist()
        for object_id, share in zip(masks.object_ids, shares, strict=True):
            if share > 0:
                self.first_seen.setdefault(object_id, frame_index)
                self.areas.setdefault(object_id, []).append(share)

    def objects(self, first_annotated: int) -> tuple[ObjectReport, ...]:
        """One report for each object."""
        return tuple(
            ObjectReport(
                num_frames=len(areas),
                mean_area=float(np.mean(areas)),
                is_late=self.first_seen[object_id] > first_annotated,
            )
            for object_id, areas in self.areas.items()
        )


def check_clip(
    dataset: ClipDataset,
    name: str,
    *,
    decode: bool,
    heartbeat: Heartbeat,
    draws: Sequence[Callable[[], str | None]] = (),
) -> ClipReport:
    """Look into a clip.

    Args:
        decode: Decode every frame and every mask; otherwise only open the clip.
    """
    try:
        video = dataset.open_video(name)
        annotated = video.annotated_frames()
    except ClipDataError as error:
        return ClipReport(problems=(str(error),))
    tally = _Tally()
    if not annotated:
        tally.note('has no annotated frame')
    if decode:
        _decode(video, frozenset(annotated), tally, heartbeat)
    if decode and annotated and not tally.areas and not tally.messages:
        tally.note(f'shows no object on any frame{void_note(video)}')
    if len(tally.sizes) > 1:
        tally.note(f'has frames of the sizes {sorted(tally.sizes)}')
    if annotated and (tally.areas or not decode):  # else it is plain that none can be
        _draw(draws, tally, heartbeat)
    return ClipReport(
        num_frames=video.num_frames,
        num_annotated=len(annotated),
        decoded=decode,
        sizes=tuple(sorted(tally.sizes)),
        objects=tally.objects(annotated[0]) if annotated else (),
        problems=tally.problems,
    )


def _draw(
    draws: Sequence[Callable[[], str | None]], tally: _Tally, heartbeat: Heartbeat
) -> None:
    """Draw from a clip; what its files were blamed for already is not told again."""
    for draw in draws:
        problem = draw()
        known = tuple(f': {message}' for message in tally.messages)
        if problem and not problem.endswith(known):
            tally.note(problem)
        heartbeat()


def _decode(
    video: VideoSource, annotated: frozenset[int], tally: _Tally, heartbeat: Heartbeat
) -> None:
    """Decode all frames and masks; one that fails does not keep others from it."""
    for index in range(video.num_frames):
        try:
            frame = video.read_frame(index)
            tally.sizes.add((frame.shape[0], frame.shape[1]))
            masks = video.read_masks(index) if index in annotated else None
        except ClipDataError as error:
            tally.note(str(error))
        else:
            if masks is not None:
                tally.add(index, masks)
                _compare_sizes(index, frame.shape[:2], masks, tally)
        heartbeat()


def _compare_sizes(
    index: int, size: tuple[int, ...], masks: FrameMasks, tally: _Tally
) -> None:
    found = masks.masks.shape[1:]
    if found != size:
        tally.note(f'frame {index}: is {size}, its masks are {found}')


def shorten(problems: list[str]) -> tuple[str, ...]:
    """Keep a list of problems readable."""
    surplus = len(problems) - MAX_PROBLEMS
    if surplus <= 0:
        return tuple(problems)
    return (*problems[:MAX_PROBLEMS], f'and {surplus} more like these')


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Smallest, middle and largest of some numbers."""

    minimum: float
    median: float
    maximum: float

    @classmethod
    def of(cls, values: Iterable[float]) -> 'Spread | None':
        """Measure numbers.

        Returns:
            Their spread; None where there are none.
        """
        found = np.array(list(values), np.float64)
        if not len(found):
            return None
        return cls(
            minimum=float(found.min()),
            median=float(np.median(found)),
            maximum=float(found.max()),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeCount:
    """How many clips have frames of a size."""

    height: int
    width: int
    num_clips: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipProblem:
    """What is wrong with a clip."""

    clip: str
    problem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSummary:
    """What a source of clips holds.

    Attributes:
        kind: Type of the data set.
        data_root: Its folder; empty for a source without files.
        num_clips: Clips that it lists.
        num_opened: Those whose files were found.
        num_decoded: Those of which every frame and mask was decoded.
        num_bad: Those with at least one problem.
        num_frames: Frames of all clips.
        frames_per_clip: Their spread.
        annotated_share: Share of the frames that have ground truth.
        sizes: Sizes of the decoded frames, the most frequent first.
        num_objects: Objects of the decoded clips.
        objects_per_clip: Their spread.
        num_late_objects: Those that the first annotated frame does not show.
        object_area: Spread of the objects' mean shares of the frame.
        seen_share: Spread of the shares of the annotated frames that show an object.
        problems: All that was found.
        is_generated: The program makes the clips; the first was opened for all.
    """

    kind: str
    data_root: str
    num_clips: int
    num_opened: int
    num_decoded: int
    num_bad: int
    num_frames: int
    frames_per_clip: Spread | None
    annotated_share: float
    sizes: tuple[SizeCount, ...]
    num_objects: int
    objects_per_clip: Spread | None
    num_late_objects: int
    object_area: Spread | None
    seen_share: Spread | None
    problems: tuple[ClipProblem, ...]
    is_generated: bool = False


def summarize(
    kind: str, data_root: str, reports: Sequence[tuple[str, ClipReport]]
) -> SourceSummary:
    """Sum up what was found in the clips of a source."""
    opened = [report for _, report in reports if report.num_frames]
    decoded = [report for report in opened if report.decoded]
    num_frames = sum(report.num_frames for report in opened)
    num_annotated = sum(report.num_annotated for report in opened)
    pairs = [(report, each) for report in decoded for each in report.objects]
    return SourceSummary(
        kind=kind,
        data_root=data_root,
        num_clips=len(reports),
        num_opened=len(opened),
        num_decoded=len(decoded),
        num_bad=sum(bool(report.problems) for _, report in reports),
        num_frames=num_frames,
        frames_per_clip=Spread.of(report.num_frames for report in opened),
        annotated_share=num_annotated / max(1, num_frames),
        sizes=_count_sizes(decoded),
        num_objects=len(pairs),
        objects_per_clip=Spread.of(len(report.objects) for report in decoded),
        num_late_objects=sum(each.is_late for _, each in pairs),
        object_area=Spread.of(each.mean_area for _, each in pairs),
        seen_share=Spread.of(
            each.num_frames / report.num_annotated for report, each in pairs
        ),
        problems=tuple(
            ClipProblem(clip=name, problem=problem)
            for name, report in reports
            for problem in report.problems
        ),
    )


def failed_source(kind: str, data_root: str, problem: str) -> SourceSummary:
    """Describe a source that lists no clip."""
    summary = summarize(kind, data_root, [('', ClipReport(problems=(problem,)))])
    return replace(summary, num_clips=0)


def _count_sizes(reports: Sequence[ClipReport]) -> tuple[SizeCount, ...]:
    counts = Counter(size for report in reports for size in report.sizes)
    return tuple(
        SizeCount(height=height, width=width, num_clips=count)
        for (height, width), count in counts.most_common()
    )


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
        time_limit: Seconds that a frame may take.
        num_epochs: Of the run: how clips are drawn may change with the epoch. None
            where that is not known.

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
    for outcome in run_tasks(
        tasks, work, num_workers=num_workers, time_limit=time_limit
    ):
        problem = f'cannot be checked: {outcome.error}'
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


def _check(
    sources: Sequence[_Source], task: ClipTask, heartbeat: Heartbeat
) -> ClipReport:
    source = sources[task.source]
    if source.dataset is None:
        msg = f'{source.kind} was not built: {source.problem}'
        raise RuntimeError(msg)
    drawings = source.drawings if task.draw else ()
    return check_clip(
        source.dataset,
        task.name,
        decode=task.decode,
        heartbeat=heartbeat,
        draws=[partial(drawing.problem_of, task.index) for drawing in drawings],
    )
