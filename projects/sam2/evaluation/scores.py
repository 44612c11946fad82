"""J and F of objects, of videos and of a set of videos."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RECALL_ABOVE = 0.5
NUM_QUARTERS = 4
_MEANS = (
    'j',
    'f',
    'j_recall',
    'f_recall',
    'j_sequence_recall',
    'f_sequence_recall',
    'j_decay',
    'f_decay',
)


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

    @property
    def recalls(self) -> tuple[float, float]:
        """Recall of J and of F: the share of the frames on which they exceed one half.

        As davis2017-evaluation defines it.
        """
        j, f = (np.asarray(v) > RECALL_ABOVE for v in (self.frame_j, self.frame_f))
        return float(np.mean(j)), float(np.mean(f))

    @property
    def frame_recalls(self) -> tuple[float, float]:
        """Earlier name of :attr:`recalls`."""
        return self.recalls

    @property
    def sequence_recalls(self) -> tuple[float, float]:
        """Whether the mean J and the mean F exceed one half: 1 or 0.

        Averaged over a dataset it is the recall of Perazzi et al. (2016), the share of
        sequences that score above one half; an object is a sequence here.
        """
        return float(self.j > RECALL_ABOVE), float(self.f > RECALL_ABOVE)

    @property
    def decays(self) -> tuple[float, float]:
        """Decay of J and of F, see :func:`score_decay`."""
        return score_decay(self.frame_j), score_decay(self.frame_f)


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionGaps:
    """What the predictions of a video lack, or have beyond its ground truth.

    Attributes:
        missing_frames: Names of frames that count and were not predicted; all objects
            count as empty on them.
        missing_objects: Objects that were predicted on no frame, and count as empty.
        extra_objects: Objects that the ground truth shows on no frame; whether they
            count is the protocol's matter.
    """

    missing_frames: tuple[str, ...] = ()
    missing_objects: tuple[int, ...] = ()
    extra_objects: tuple[int, ...] = ()

    def __bool__(self) -> bool:
        """Whether there is anything to report."""
        return bool(self.missing_frames or self.missing_objects or self.extra_objects)


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoScores:
    """Scores of one video.

    Attributes:
        video_name: As in the split's list.
        objects: Those with a frame that counts, by ascending id.
        gaps: What the predictions lack.
        protocol: By which objects and frames were chosen, in words.
    """

    video_name: str
    objects: tuple[ObjectScores, ...]
    gaps: PredictionGaps = PredictionGaps()
    protocol: str = ''

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
        j_recall: Share of the frames of an object whose J exceeds one half, averaged
            over the objects: the recall of davis2017-evaluation.
        f_recall: Likewise of F.
        j_sequence_recall: Share of the objects whose mean J exceeds one half: the
            recall of Perazzi et al. (2016).
        f_sequence_recall: Likewise of F.
        j_decay: How much J falls, see :func:`score_decay`.
        f_decay: How much F falls.
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
        """Mean of both."""
        return (self.j + self.f) / 2

    @property
    def j_frame_recall(self) -> float:
        """Earlier name of :attr:`j_recall`."""
        return self.j_recall

    @property
    def f_frame_recall(self) -> float:
        """Earlier name of :attr:`f_recall`."""
        return self.f_recall


def score_decay(values: Sequence[float]) -> float:
    """How much a score falls from the first quarter of the frames to the last.

    As the DAVIS toolkit cuts them: quarters share the frame between them. (The toolkit
    counts frames in eight bits and goes wrong beyond 256 of them; this does not.)

    Args:
        values: Score on each frame, at least one.

    Returns:
        Mean of the first quarter less that of the last.
    """
    # The toolkit's way to round a half up rather than to the even number.
    cuts = np.round(np.linspace(1, len(values), NUM_QUARTERS + 1) + 1e-10).astype(int)
    first, last = values[: cuts[1]], values[cuts[-2] - 1 :]
    return float(np.mean(first) - np.mean(last))


def summarise(videos: Sequence[VideoScores]) -> ScoreSummary:
    """Average over the objects of all videos, each object alike.

    Args:
        videos: Scores of each video.

    Returns:
        Their means, 0 to 100.
    """
    objects = [scores for video in videos for scores in video.objects]
    rows = [
        (each.j, each.f, *each.recalls, *each.sequence_recalls, *each.decays)
        for each in objects
    ]
    columns = [*zip(*rows, strict=True)] or [(math.nan,)] * len(_MEANS)
    values = dict(zip(_MEANS, (100 * np.mean(columns, axis=1)).tolist(), strict=True))
    return ScoreSummary(num_objects=len(objects), num_videos=len(videos), **values)
