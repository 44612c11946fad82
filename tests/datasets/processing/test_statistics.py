"""Reports of clips summed up."""

import pytest

from projects.sam2.datasets.processing.checking import (
    ClipReport,
    ObjectReport,
    SizeCount,
    Spread,
    failed_source,
    summarize,
)


def clip(num_frames: int, *objects: ObjectReport, decoded: bool = True) -> ClipReport:
    """A clip of which every second frame is annotated."""
    return ClipReport(
        num_frames=num_frames,
        num_annotated=num_frames // 2,
        decoded=decoded,
        sizes=((4, 6),) if decoded else (),
        objects=objects,
    )


def thing(num_frames: int, mean_area: float, *, is_late: bool = False) -> ObjectReport:
    return ObjectReport(num_frames=num_frames, mean_area=mean_area, is_late=is_late)


def test_sums_count_only_what_was_decoded() -> None:
    reports = [
        ('a', clip(10, thing(5, 0.1), thing(1, 0.3, is_late=True))),
        ('b', clip(20, thing(10, 0.2))),
        ('c', clip(30, decoded=False)),
        ('d', ClipReport(problems=('gone', 'lost'))),
    ]
    found = summarize('Kind', 'root', reports)
    assert (found.num_clips, found.num_opened, found.num_decoded) == (4, 3, 2)
    assert (found.num_bad, len(found.problems)) == (1, 2)
    assert found.problems[1].clip == 'd'
    assert (found.num_frames, found.annotated_share) == (60, 0.5)
    assert found.frames_per_clip == Spread(minimum=10, median=20, maximum=30)
    assert found.sizes == (SizeCount(height=4, width=6, num_clips=2),)
    assert (found.num_objects, found.num_late_objects) == (3, 1)
    assert found.objects_per_clip == Spread(minimum=1, median=1.5, maximum=2)
    assert found.object_area == Spread(minimum=0.1, median=0.2, maximum=0.3)
    assert found.seen_share == Spread(minimum=0.2, median=1, maximum=1)


def test_most_frequent_size_comes_first() -> None:
    sizes = [((2, 3),), ((4, 5),), ((4, 5),)]
    reports = [('x', ClipReport(num_frames=1, decoded=True, sizes=s)) for s in sizes]
    found = [(s.height, s.num_clips) for s in summarize('K', '', reports).sizes]
    assert found == [(4, 2), (2, 1)]


@pytest.mark.parametrize('reports', [[], [('a', ClipReport(problems=('gone',)))]])
def test_nothing_has_no_spread(reports: list[tuple[str, ClipReport]]) -> None:
    found = summarize('Kind', 'root', reports)
    assert found.frames_per_clip is None
    assert found.object_area is None
    assert found.annotated_share == 0


def test_source_that_lists_nothing_has_its_problem() -> None:
    found = failed_source('Kind', 'root', 'is missing')
    assert found.num_clips == 0
    assert [each.problem for each in found.problems] == ['is missing']
