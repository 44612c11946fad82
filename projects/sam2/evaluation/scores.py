"""J and F of objects and videos, and their means over a dataset."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RECALL_THRESHOLD = 0.5
NUM_QUARTERS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectScores:
    """J and F of one object, in [0, 1], on each frame that counts.

    Attributes:
        object_id: As in the dataset.
        frames: Frame indices, ascending, at least one.
        frame_j: J on each of them.
        frame_f: F on each of them.
        shown: Whether the ground truth shows the object on each of them; empty in
            reports that were written before it was kept.
    """

    object_id: int
    frames: tuple[int, ...]
    frame_j: tuple[float, ...]
    frame_f: tuple[float, ...]
    shown: tuple[bool, ...] = ()

    @property
    def j(self) -> float:
        """Mean J."""
        return float(np.mean(self.frame_j))

    @property
    def f(self) -> float:
        """Mean F."""
        return float(np.mean(self.frame_f))

    @property
    def recalls(self) -> tuple[float, float]:
        """Share of the frames with J and with F above 0.5 (davis2017-evaluation)."""
        j, f = (np.asarray(v) > RECALL_THRESHOLD for v in (self.frame_j, self.frame_f))
        return float(np.mean(j)), float(np.mean(f))

    @property
    def sequence_recalls(self) -> tuple[float, float]:
        """Whether the mean J and the mean F exceed 0.5: 1 or 0.

        Averaged over a dataset this is the recall of Perazzi et al. (2016), the share
        of sequences that score above 0.5; each object counts as a sequence.
        """
        return float(self.j > RECALL_THRESHOLD), float(self.f > RECALL_THRESHOLD)

    @property
    def decays(self) -> tuple[float, float]:
        """Decay of J and of F, see :func:`score_decay`."""
        return score_decay(self.frame_j), score_decay(self.frame_f)


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionGaps:
    """Differences between what was predicted and what is annotated in a video.

    Attributes:
        missing_frames: Names of frames that count and were not predicted; all objects
            count as empty on them.
        missing_objects: Objects that were predicted on no frame, and count as empty.
        extra_objects: Predicted objects that the ground truth never shows; the protocol
            decides whether they count.
    """

    missing_frames: tuple[str, ...] = ()
    missing_objects: tuple[int, ...] = ()
    extra_objects: tuple[int, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.missing_frames or self.missing_objects or self.extra_objects)


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoScores:
    """Scores of one video.

    Attributes:
        video_name: As in the split's list.
        objects: Objects with a frame that counts, by ascending id.
        gaps: Missing and extra predictions.
        protocol: Describes which objects and frames count.
    """

    video_name: str
    objects: tuple[ObjectScores, ...]
    gaps: PredictionGaps = PredictionGaps()
    protocol: str = ''

    @property
    def object_ids(self) -> tuple[int, ...]:
        """Ids of the objects."""
        return tuple(obj.object_id for obj in self.objects)

    @property
    def j(self) -> tuple[float, ...]:
        """Mean J of each object."""
        return tuple(obj.j for obj in self.objects)

    @property
    def f(self) -> tuple[float, ...]:
        """Mean F of each object."""
        return tuple(obj.f for obj in self.objects)

    @property
    def num_frames(self) -> int:
        """Number of frames on which any object counts."""
        return len({frame for obj in self.objects for frame in obj.frames})


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreSummary:
    """Means over objects, 0 to 100; NaN where no object counts.

    Attributes:
        j: Region similarity.
        f: Contour accuracy.
        num_objects: Objects of all videos.
        num_videos: Videos, including those without an object that counts.
        j_recall: See :attr:`ObjectScores.recalls`.
        f_recall: See :attr:`ObjectScores.recalls`.
        j_sequence_recall: See :attr:`ObjectScores.sequence_recalls`.
        f_sequence_recall: See :attr:`ObjectScores.sequence_recalls`.
        j_decay: See :func:`score_decay`.
        f_decay: See :func:`score_decay`.
    """

    j: float
    f: float
    num_objects: int
    num_videos: int
    j_recall: float
    f_recall: float
    j_sequence_recall: float
    f_sequence_recall: float
    j_decay: float
    f_decay: float

    @property
    def j_and_f(self) -> float:
        """Mean of J and F."""
        return (self.j + self.f) / 2


def summarise(videos: Sequence[VideoScores]) -> ScoreSummary:
    """Average over the objects of all videos; each object has the same weight."""
    objects = [obj for video in videos for obj in video.objects]
    rows = [
        (obj.j, obj.f, *obj.recalls, *obj.sequence_recalls, *obj.decays)
        for obj in objects
    ]
    columns = [*zip(*rows, strict=True)] or [(math.nan,)] * 8
    means = iter((100 * np.mean(columns, axis=1)).tolist())
    return ScoreSummary(
        num_objects=len(objects),
        num_videos=len(videos),
        j=next(means),
        f=next(means),
        j_recall=next(means),
        f_recall=next(means),
        j_sequence_recall=next(means),
        f_sequence_recall=next(means),
        j_decay=next(means),
        f_decay=next(means),
    )


def score_decay(values: Sequence[float]) -> float:
    """Compute how much a score falls from the first quarter of the frames to the last.

    Neighbouring quarters share a frame, as in the DAVIS toolkit. (The toolkit counts
    frames in eight bits and is wrong beyond 256 of them; this is not.)
    """
    # Adding a little rounds halves up, as the toolkit does, rather than to even.
    cuts = np.round(np.linspace(1, len(values), NUM_QUARTERS + 1) + 1e-10).astype(int)
    first, last = values[: cuts[1]], values[cuts[-2] - 1 :]
    return float(np.mean(first) - np.mean(last))
