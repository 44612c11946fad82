"""What is found in a clip, and what is wrong with it."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from projects.sam2.datasets import ClipPaletteDataset
from projects.sam2.datasets.processing.checking import (
    ClipReport,
    ObjectReport,
    check_clip,
    shorten,
)
from projects.sam2.structures import FrameMasks

Labels = NDArray[np.uint8]


@pytest.fixture
def check(
    tmp_path: Path, write_davis_clip: Callable[..., None]
) -> Callable[..., ClipReport]:
    """Writes a clip, damages it, and looks into it."""

    def write_and_check(
        *,
        labels: Callable[[int], Labels | None],
        damage: Callable[[Path], object] = Path.exists,
        decode: bool = True,
        heartbeat: Callable[[], None] = lambda: None,
    ) -> ClipReport:
        write_davis_clip(tmp_path, 'ant', num_frames=4, labels=labels)
        damage(tmp_path)
        dataset = ClipPaletteDataset(data_root=str(tmp_path))
        return check_clip(dataset, 'ant', decode=decode, heartbeat=heartbeat)

    return write_and_check


def late_object(time: int) -> Labels | None:
    """Object 1 is always seen, 2 from frame 2 on; frame 3 has no mask."""
    labels = np.zeros((24, 32), np.uint8)
    labels[:12, :8] = 1
    if time >= 2:
        labels[20:, :16] = 2
    return None if time == 3 else labels


def test_objects_are_measured_over_the_annotated_frames(
    check: Callable[..., ClipReport],
) -> None:
    beats: list[int] = []
    assert check(labels=late_object, heartbeat=lambda: beats.append(1)) == ClipReport(
        num_frames=4,
        num_annotated=3,
        decoded=True,
        sizes=((24, 32),),
        objects=(
            ObjectReport(num_frames=3, mean_area=0.125, is_late=False),
            ObjectReport(num_frames=1, mean_area=64 / 768, is_late=True),
        ),
    )
    assert len(beats) == 4


def test_clip_that_is_only_opened_is_not_decoded(
    check: Callable[..., ClipReport],
) -> None:
    def spoil(root: Path) -> None:
        (root / 'JPEGImages/ant/00001.jpg').write_bytes(b'nothing')

    found = check(labels=late_object, damage=spoil, decode=False)
    assert found == ClipReport(num_frames=4, num_annotated=3)


def test_damaged_frame_is_named_and_the_others_are_read(
    check: Callable[..., ClipReport],
) -> None:
    def spoil(root: Path) -> None:
        (root / 'JPEGImages/ant/00001.jpg').write_bytes(b'nothing')

    found = check(labels=late_object, damage=spoil)
    (problem,) = found.problems
    assert 'JPEGImages/ant/00001.jpg' in problem
    assert [each.num_frames for each in found.objects] == [2, 1]


def test_message_about_many_frames_comes_once(
    check: Callable[..., ClipReport],
) -> None:
    def spoil(root: Path) -> None:
        for time in (0, 1, 3):
            (root / f'JPEGImages/ant/0000{time}.jpg').write_bytes(b'nothing')

    (problem,) = check(labels=late_object, damage=spoil).problems
    assert 'JPEGImages/ant/00000.jpg' in problem
    assert problem.endswith('(and on 2 more frames)')


def test_frames_of_two_sizes_are_a_problem(check: Callable[..., ClipReport]) -> None:
    def shrink(root: Path) -> None:
        path = str(root / 'JPEGImages/ant/00003.jpg')
        cv2.imwrite(path, np.zeros((12, 16, 3), np.uint8))

    found = check(labels=late_object, damage=shrink)
    assert found.problems == ('has frames of the sizes [(12, 16), (24, 32)]',)


def test_clip_without_objects_is_a_problem(check: Callable[..., ClipReport]) -> None:
    found = check(labels=lambda time: np.zeros((24, 32), np.uint8))
    assert found.problems == ('shows no object on any frame',)


def test_masks_of_0_and_255_say_that_255_is_void(
    check: Callable[..., ClipReport],
) -> None:
    found = check(labels=lambda time: np.full((24, 32), 255 * (time > 0), np.uint8))
    (problem,) = found.problems
    assert 'all labelled pixels are 255, which is void; set void_label=None' in problem


def test_masks_that_cannot_be_read_are_not_called_empty(
    check: Callable[..., ClipReport],
) -> None:
    (problem,) = check(labels=lambda time: np.ones((9, 9), np.uint8)).problems
    assert 'mask of (9, 9) beside a frame' in problem


def test_clip_that_cannot_be_opened_says_why(check: Callable[..., ClipReport]) -> None:
    def lose(root: Path) -> None:
        (root / 'JPEGImages/ant/00002.jpg').unlink()

    found = check(labels=late_object, damage=lose)
    assert found.num_frames == 0
    assert '00002.jpg: is missing, its mask 00002.png is there' in found.problems[0]


class StrangeVideo:
    """Masks of another size than the frame, with an id twice."""

    name, num_frames = 'ant', 1

    def annotated_frames(self) -> tuple[int, ...]:
        """The one."""
        return (0,)

    def read_frame(self, frame_index: int) -> Labels:
        """A frame."""
        return np.zeros((4, 6, 3), np.uint8)

    def read_masks(self, frame_index: int) -> FrameMasks:
        """Its masks."""
        return FrameMasks(object_ids=(5, 5), masks=np.ones((2, 4, 5), bool))


class StrangeDataset:
    """Opens it."""

    def open_video(self, name: str) -> StrangeVideo:
        """Open."""
        return StrangeVideo()


def test_what_a_reader_lets_pass_is_found() -> None:
    found = check_clip(StrangeDataset(), 'ant', decode=True, heartbeat=lambda: None)  # type: ignore[arg-type]
    assert found.problems == (
        'frame 0: has an object id twice',
        'frame 0: is (4, 6), its masks are (4, 5)',
    )


def test_many_problems_of_a_clip_are_cut_short() -> None:
    draws = [lambda i=i: str(i) for i in range(12)]
    found = check_clip(
        StrangeDataset(),  # type: ignore[arg-type]
        'ant',
        decode=False,
        heartbeat=lambda: None,
        draws=draws,
    )
    assert found.problems == (*map(str, range(10)), 'and 2 more like these')
    problems = [str(i) for i in range(12)]
    assert shorten(problems) == (*problems[:10], 'and 2 more like these')
    assert shorten(problems[:10]) == tuple(problems[:10])
