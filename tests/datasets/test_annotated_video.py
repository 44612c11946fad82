"""The video of all sources that are files."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from projects.sam2.datasets import AnnotatedVideo, ClipDataError
from projects.sam2.datasets.annotated_video import MaskReader, check_size
from projects.sam2.datasets.io.frames import ImageFrames
from projects.sam2.structures import FrameMasks, VideoSource


class CountingMasks(MaskReader):
    """Knows one annotated frame and counts its readings."""

    num_read = 0

    def annotated_frames(self) -> tuple[int, ...]:
        """The second frame."""
        return (1,)

    def object_ids(self) -> tuple[int, ...]:
        """One object."""
        return (4,)

    def read(
        self,
        frame_index: int,
        size: tuple[int, int],
        object_ids: tuple[int, ...] | None = None,
    ) -> FrameMasks:
        """Full masks."""
        self.num_read += frame_index
        ids = object_ids or self.object_ids()
        return FrameMasks(object_ids=ids, masks=np.ones((len(ids), *size), bool))


@pytest.fixture
def video(root: Path) -> AnnotatedVideo:
    folder = root / 'JPEGImages' / 'ant'
    frames = ImageFrames(folder=folder, files=('00000.jpg', '00001.jpg'))
    return AnnotatedVideo(name='ant', frames=frames, masks=CountingMasks())


def test_only_what_is_asked_for_is_decoded(video: AnnotatedVideo) -> None:
    assert isinstance(video, VideoSource)
    assert (video.num_frames, video.frame_name(1)) == (2, '00001')
    assert video.read_masks(0) is None
    assert video.read_objects(0, (4,)) is None
    assert video.masks.num_read == 0  # type: ignore[attr-defined]  # of the class above
    masks, chosen = video.read_masks(1), video.read_objects(1, (7, 9))
    assert masks is not None
    assert chosen is not None
    assert (masks.object_ids, chosen.object_ids) == ((4,), (7, 9))
    assert masks.masks.shape[1:] == video.read_frame(1).shape[:2]


def test_mask_of_another_size_is_refused() -> None:
    check_size('a.png', (3, 4), (3, 4))
    with pytest.raises(ClipDataError, match=r'a\.png: mask of \(4, 3\)'):
        check_size('a.png', (4, 3), (3, 4))


def test_whatever_a_mask_reader_raises_is_an_error_of_the_clip(
    video: AnnotatedVideo, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bomb(*_: object) -> None:
        raise RecursionError('too deep')

    for name in ('annotated_frames', 'object_ids', 'read'):
        monkeypatch.setattr(CountingMasks, name, bomb)
    calls: list[Callable[[], object]] = [
        video.annotated_frames,
        video.object_ids,
        lambda: video.read_masks(1),
        lambda: video.read_objects(1, (4,)),
    ]
    for call in calls:
        with pytest.raises(ClipDataError, match='ant: cannot be read'):
            call()
