"""J and F of objects, of videos and of a set of videos."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectScores:
    """J and F of one object, in [0, 1], on each frame that counts.

    Attributes:
        object_id: As in the dataset.
        frames: Positions in the video, ascending, at least one.
        frame_j: J on each of them.
        frame_f: F on each of them.
    """

    object_id: int
    frames: tuple[int, ...]
    frame_j: tuple[float, ...]
    frame_f: tuple[float, ...]

    def __post_init__(self) -> None:
        """Check that there is one J and one F for each frame."""
        lengths = {len(self.frames), len(self.frame_j), len(self.frame_f)}
        if lengths == {0} or len(lengths) != 1:
            msg = (
                f'Object {self.object_id}: expected one J and one F for each of at '
                f'least one frame, but got {len(self.frames)} frames, '
                f'{len(self.frame_j)} J and {len(self.frame_f)} F'
            )
            raise ValueError(msg)

    @property
    def j(self) -> float:
        """Mean J."""
        return float(np.mean(self.frame_j))

    @property
    def f(self) -> float:
        """Mean F."""
        return float(np.mean(self.frame_f))


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoScores:
    """Scores of one video.

    Attributes:
        video_name: As in the split's list.
        objects: Those with a frame that counts, by ascending id.
    """

    video_name: str
    objects: tuple[ObjectScores, ...]

    @property
    def object_ids(self) -> tuple[int, ...]:
        """Ids of the objects."""
        return tuple(scores.object_id for scores in self.objects)

    @property
    def j(self) -> tuple[float, ...]:
        """Mean J of each object."""
        return tuple(scores.j for scores in self.objects)

    @property
    def f(self) -> tuple[float, ...]:
        """Mean F of each object."""
        return tuple(scores.f for scores in self.objects)

    @property
    def num_frames(self) -> int:
        """Frames on which any object counts."""
        return len({frame for scores in self.objects for frame in scores.frames})


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreSummary:
    """Mean over objects, 0 to 100; NaN where no object counts.

    Attributes:
        j: Region similarity.
        f: Contour accuracy.
        num_objects: Objects of all videos.
        num_videos: Videos, those without an object among them.
    """

    j: float
    f: float
    num_objects: int
    num_videos: int

    @property
    def j_and_f(self) -> float:
        """Mean of both."""
        return (self.j + self.f) / 2


def summarise(videos: Sequence[VideoScores]) -> ScoreSummary:
    """Average over the objects of all videos, each object alike.

    Args:
        videos: Scores of each video.

    Returns:
        Their means, 0 to 100.
    """
    j = [value for video in videos for value in video.j]
    f = [value for video in videos for value in video.f]
    return ScoreSummary(
        j=100 * float(np.mean(j)) if j else float('nan'),
        f=100 * float(np.mean(f)) if f else float('nan'),
        num_objects=len(j),
        num_videos=len(videos),
    )
