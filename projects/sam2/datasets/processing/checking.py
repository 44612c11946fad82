"""Check a dataset: open and decode its clips, pass them through the training pipeline.

``check_dataset`` builds every source in a config (``_Source``), checks each clip in a
worker process (``_check``, :func:`check_clip`, :func:`training_problem`) and summarizes
each source (:class:`SourceSummary`). ``tools/check_dataset.py`` prints the result.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from mmengine.registry import DATASETS

from ...structures import FrameMasks, VideoSource
from ...structures.clip import EpochIndex
from ..annotated_video import void_note
from ..clip_dataset import ClipDataset
from ..io.errors import ClipDataError
from ..transforms.sampling import ClipSampleFrames
from .config_sources import (
    DatasetConfig,
    find_clip_datasets,
    find_sources,
    without_pipeline,
)
from .worker_pool import Advance, Heartbeat, run_tasks

MAX_PROBLEMS = 10  # problems of a clip that are reported one by one


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Minimum, median and maximum of some values."""

    minimum: float
    median: float
    maximum: float

    @classmethod
    def of(cls, values: Iterable[float]) -> 'Spread | None':
        """Measure values; None if there are none."""
        array = np.array(list(values), np.float64)
        if not len(array):
            return None
        return cls(
            minimum=float(array.min()),
            median=float(np.median(array)),
            maximum=float(array.max()),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeCount:
    """Number of clips with frames of a size."""

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
    """Content and problems of a source of clips.

    Attributes:
        kind: Type of the dataset.
        data_root: Its folder; empty for a source without files.
        num_clips: Number of listed clips.
        num_opened: Clips whose files exist.
        num_decoded: Clips whose frames and masks were all decoded.
        num_bad: Clips with at least one problem.
        num_frames: Frames of all clips.
        frames_per_clip: Over the opened clips.
        annotated_share: Share of the frames that have ground truth, 0 to 1.
        sizes: Sizes of the decoded frames, the most frequent first.
        num_objects: Objects of the decoded clips.
        objects_per_clip: Over the decoded clips.
        num_late_objects: Objects that the first annotated frame does not show.
        object_area: Mean share of the frame that an object covers, where visible.
        seen_share: Share of the annotated frames that show an object.
        problems: All problems.
        is_generated: The clips are rendered; only the first was checked.
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
    """Open every clip of a dataset; decode and draw all of them, or a sample.

    Args:
        config: Any dataset. Its sources are decoded; clips of datasets with a pipeline
            are passed through it as in training.
        sample: Clips of each source to decode, chosen at random with a fixed seed;
            None for all.
        time_limit: Seconds for one frame.
        num_epochs: Epochs of the run, since clips may be drawn differently in later
            epochs; None if unknown.
        seed: Seed of the run.

    Returns:
        A summary of each source, then of each view (stride, single objects) with a
        pipeline.

    Raises:
        ValueError: If ``sample`` is negative.
    """
    if sample is not None and sample < 0:
        msg = f'sample is {sample}; give 0 or more, or None for all clips'
        raise ValueError(msg)
    source_configs = find_sources(config)
    clip_configs = find_clip_datasets(config)
    sources = [
        _build(each, [c for c in clip_configs if without_pipeline(c) == each])
        for each in source_configs
    ]
    views = [
        _build(each, [each], is_view=True)
        for each in clip_configs
        if without_pipeline(each) not in source_configs
    ]
    reported = {source.problem for source in sources if source.problem}
    sources += [view for view in views if view.problem not in reported]
    tasks = [
        task
        for source_index, source in enumerate(sources)
        for task in source.tasks(source_index, sample)
    ]
    check = partial(_check, sources, num_epochs, seed)
    reports: dict[_ClipTask, ClipReport] = {}
    for result in run_tasks(
        tasks, check, num_workers=num_workers, time_limit=time_limit
    ):
        reports[result.task] = result.result or ClipReport.failed(
            f'cannot be checked: {result.error}'
        )
        advance(len(reports), len(tasks))
    return [
        source.summarize(
            {task.name: reports[task] for task in tasks if task.source_index == index}
        )
        for index, source in enumerate(sources)
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class _ClipTask:
    """A clip to check; ``index`` is its position in the dataset."""

    source_index: int
    name: str
    index: int
    decode: bool
    draw: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """A built source or view, or the problem that prevented it.

    Attributes:
        dataset: Opens the clips.
        clip_datasets: The same clips with pipelines.
        is_view: Its source is decoded already, so its clips are only drawn.
    """

    kind: str
    data_root: str
    dataset: ClipDataset | None = None
    names: tuple[str, ...] = ()
    clip_datasets: tuple[ClipDataset, ...] = ()
    is_view: bool = False
    problem: str = ''

    @property
    def is_generated(self) -> bool:
        return getattr(self.dataset, 'is_generated', False)

    def tasks(self, source_index: int, sample: int | None) -> list[_ClipTask]:
        """One task per clip; of rendered clips the first represents all."""
        index_of: dict[str, int] = {}
        for index, name in enumerate(self.names[: 1 if self.is_generated else None]):
            index_of.setdefault(name, index)
        names = list(index_of)
        sampled = set(names)
        if sample is not None and sample < len(names):
            order = np.random.default_rng(0).permutation(len(names))[:sample]
            sampled = {names[i] for i in order.tolist()}
        return [
            _ClipTask(
                source_index=source_index,
                name=name,
                index=index,
                decode=name in sampled and not self.is_view,
                draw=name in sampled,
            )
            for name, index in index_of.items()
        ]

    def summarize(self, reports: Mapping[str, 'ClipReport']) -> SourceSummary:
        """Summarize the reports of all clips, in the order of the list."""
        if self.problem:
            reports = {'': ClipReport.failed(self.problem)}
        counts = Counter(self.names)
        for name, report in reports.items():
            if counts[name] > 1:
                report.add_problem(f'is listed {counts[name]} times')
        opened = [report for report in reports.values() if report.num_frames]
        decoded = [report for report in opened if report.decoded]
        objects = [(r, each) for r in decoded for each in r.objects.values()]
        sizes = Counter(size for report in decoded for size in sorted(report.sizes))
        num_frames = sum(report.num_frames for report in opened)
        num_annotated = sum(report.num_annotated for report in opened)
        return SourceSummary(
            kind=self.kind,
            data_root=self.data_root,
            num_clips=len(counts),
            num_opened=len(opened),
            num_decoded=len(decoded),
            num_bad=sum(bool(report.problems) for report in reports.values()),
            num_frames=num_frames,
            frames_per_clip=Spread.of(report.num_frames for report in opened),
            annotated_share=num_annotated / max(1, num_frames),
            sizes=tuple(
                SizeCount(height=height, width=width, num_clips=count)
                for (height, width), count in sizes.most_common()
            ),
            num_objects=len(objects),
            objects_per_clip=Spread.of(len(report.objects) for report in decoded),
            num_late_objects=sum(each.is_late for _, each in objects),
            object_area=Spread.of(each.mean_area for _, each in objects),
            seen_share=Spread.of(
                each.num_frames / report.num_annotated for report, each in objects
            ),
            problems=tuple(
                ClipProblem(clip=name, problem=problem)
                for name, report in reports.items()
                for problem in report.problems
            ),
            is_generated=self.is_generated,
        )


def _build(
    config: DatasetConfig,
    clip_configs: list[DatasetConfig],
    *,
    is_view: bool = False,
) -> _Source:
    """Build a source and the datasets that draw its clips."""
    kind = config['type']
    name = kind if isinstance(kind, str) else kind.__name__
    data_root = str(config.get('data_root') or '')
    try:
        clip_datasets = tuple(DATASETS.build(each) for each in clip_configs)
        # A dataset with a pipeline lists the same clips: the source need not be built.
        dataset = clip_datasets[0] if clip_datasets else DATASETS.build(config)
        names = tuple(dataset.list_videos())
    except (OSError, ValueError) as error:
        return _Source(kind=name, data_root=data_root, problem=str(error))
    return _Source(
        kind=name,
        data_root=data_root,
        dataset=dataset,
        names=names,
        clip_datasets=clip_datasets,
        is_view=is_view,
    )


@dataclass(slots=True, kw_only=True)
class ObjectReport:
    """Where an object of a clip is visible.

    Attributes:
        is_late: The first annotated frame does not show it.
        num_frames: Annotated frames that show it.
        total_area: Sum over these of the share of the frame that it covers.
    """

    is_late: bool
    num_frames: int = 0
    total_area: float = 0.0

    @property
    def mean_area(self) -> float:
        """Mean share of the frame that it covers, where visible."""
        return self.total_area / self.num_frames


@dataclass(slots=True, kw_only=True)
class ClipReport:
    """Measurements and problems of a clip.

    Attributes:
        num_frames: Number of frames; 0 if the clip cannot be opened.
        num_annotated: Number of frames with ground truth.
        decoded: Whether it was decoded; otherwise ``sizes`` and ``objects`` are empty.
        sizes: Heights and widths of its frames.
        objects: Visible objects by id.
        messages: For each message without its file or frame: the first problem with
            that message, and the number of them.
    """

    num_frames: int = 0
    num_annotated: int = 0
    decoded: bool = False
    sizes: set[tuple[int, int]] = field(default_factory=set)
    objects: dict[int, ObjectReport] = field(default_factory=dict)
    messages: dict[str, tuple[str, int]] = field(default_factory=dict)

    @classmethod
    def failed(cls, problem: str) -> 'ClipReport':
        """Report a clip that cannot be opened."""
        report = cls()
        report.add_problem(problem)
        return report

    def add_problem(self, problem: str) -> None:
        """Add ``<file or frame>: <message>``, or a message alone."""
        message = problem.partition(': ')[2] or problem
        first, count = self.messages.get(message, (problem, 0))
        self.messages[message] = first, count + 1

    @property
    def problems(self) -> tuple[str, ...]:
        """The problems, equal messages of several frames merged, cut after ten."""
        problems = [
            f'{first} (and on {count - 1} more frames)' if count > 1 else first
            for first, count in self.messages.values()
        ]
        num_hidden = len(problems) - MAX_PROBLEMS
        if num_hidden > 0:
            problems[MAX_PROBLEMS:] = [f'and {num_hidden} more like these']
        return tuple(problems)


def _check(
    sources: list[_Source],
    num_epochs: int | None,
    seed: int,
    task: _ClipTask,
    heartbeat: Heartbeat,
) -> ClipReport:
    """Check a clip in a worker process."""
    source = sources[task.source_index]
    if source.dataset is None:
        msg = f'{source.kind} was not built: {source.problem}'
        raise RuntimeError(msg)
    report = check_clip(
        source.dataset, task.name, decode=task.decode, heartbeat=heartbeat
    )
    # No need to draw a clip without annotations or objects: training cannot use it.
    is_drawable = report.num_annotated and (report.objects or not task.decode)
    for dataset in source.clip_datasets if task.draw and is_drawable else ():
        problem = training_problem(dataset, task.index, num_epochs, seed)
        # Decoding may have reported the same damaged file already.
        if problem and not problem.endswith(tuple(f': {m}' for m in report.messages)):
            report.add_problem(problem)
        heartbeat()
    return report


def check_clip(
    dataset: ClipDataset, name: str, *, decode: bool, heartbeat: Heartbeat
) -> ClipReport:
    """Open a clip, and decode its frames and masks if ``decode``."""
    try:
        video = dataset.open_video(name)
        annotated = video.annotated_frames()
    except ClipDataError as error:
        return ClipReport.failed(str(error))
    report = ClipReport(
        num_frames=video.num_frames, num_annotated=len(annotated), decoded=decode
    )
    if not annotated:
        report.add_problem('has no annotated frame')
    if decode:
        _decode(video, annotated, report, heartbeat)
        if annotated and not report.objects and not report.messages:
            report.add_problem(f'shows no object on any frame{void_note(video)}')
    if len(report.sizes) > 1:
        report.add_problem(f'has frames of the sizes {sorted(report.sizes)}')
    return report


def _decode(
    video: VideoSource,
    annotated: tuple[int, ...],
    report: ClipReport,
    heartbeat: Heartbeat,
) -> None:
    """Decode all frames and masks; a damaged file does not stop the others."""
    has_masks = frozenset(annotated)
    for index in range(video.num_frames):
        try:
            frame = video.read_frame(index)
            report.sizes.add((frame.shape[0], frame.shape[1]))
            masks = video.read_masks(index) if index in has_masks else None
        except ClipDataError as error:
            report.add_problem(str(error))
        else:
            if masks is not None:
                _measure(masks, report, index, is_first=index == annotated[0])
                if masks.masks.shape[1:] != frame.shape[:2]:
                    report.add_problem(
                        f'frame {index}: is {frame.shape[:2]}, its masks are '
                        f'{masks.masks.shape[1:]}'
                    )
        heartbeat()


def _measure(
    masks: FrameMasks, report: ClipReport, index: int, *, is_first: bool
) -> None:
    """Add the objects of a frame to the report."""
    if len(set(masks.object_ids)) < len(masks.object_ids):
        report.add_problem(f'frame {index}: has an object id twice')
    areas = masks.masks.mean(axis=(1, 2)).tolist()
    for object_id, area in zip(masks.object_ids, areas, strict=True):
        if area > 0:
            obj = report.objects.setdefault(
                object_id, ObjectReport(is_late=not is_first)
            )
            obj.num_frames += 1
            obj.total_area += area


def training_problem(
    dataset: ClipDataset, index: int, num_epochs: int | None, seed: int
) -> str | None:
    """Load a clip as training does, in each epoch that samples clips differently.

    Returns:
        Why training cannot use the clip; None if it can.
    """
    epochs = {0}
    for transform in dataset.pipeline.transforms:
        if isinstance(transform, ClipSampleFrames):
            epochs.update(transform.epochs_of_change)
    for epoch in sorted(epochs):
        if num_epochs is not None and epoch >= num_epochs:
            break
        try:
            dataset.load_clip(EpochIndex(index, epoch, seed))
        except ClipDataError as error:
            when = f' after {epoch} epochs' if epoch else ''
            return f'training cannot use it{when}: {error}'
    return None
