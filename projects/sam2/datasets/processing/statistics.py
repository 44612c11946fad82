"""Sums reports of clips up to what a data set holds."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from projects.sam2.datasets.processing.checking import ClipReport


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Smallest, middle and largest of some numbers."""

    minimum: float
    median: float
    maximum: float

    @classmethod
    def of(cls, values: Iterable[float]) -> 'Spread | None':
        """Measure numbers.

        Args:
            values: Any.

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
    """Sum up what was found in the clips of a source.

    Args:
        kind: Type of the data set.
        data_root: Its folder.
        reports: Name and report of each clip.

    Returns:
        The sums.
    """
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
    """Describe a source that lists no clip.

    Args:
        kind: Type of the data set.
        data_root: Its folder.
        problem: Why not.

    Returns:
        A summary of nothing, with the problem.
    """
    summary = summarize(kind, data_root, [('', ClipReport(problems=(problem,)))])
    return replace(summary, num_clips=0)


def _count_sizes(reports: Sequence[ClipReport]) -> tuple[SizeCount, ...]:
    counts = Counter(size for report in reports for size in report.sizes)
    return tuple(
        SizeCount(height=height, width=width, num_clips=count)
        for (height, width), count in counts.most_common()
    )
