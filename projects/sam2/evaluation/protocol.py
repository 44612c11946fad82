"""J and F of objects, of videos and of a set of videos."""

import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from mmengine.registry import TASK_UTILS

from .jf import FrameScores

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
    """
    # The toolkit's way to round a half up rather than to the even number.
    cuts = np.round(np.linspace(1, len(values), NUM_QUARTERS + 1) + 1e-10).astype(int)
    first, last = values[: cuts[1]], values[cuts[-2] - 1 :]
    return float(np.mean(first) - np.mean(last))


def summarise(videos: Sequence[VideoScores]) -> ScoreSummary:
    """Average over the objects of all videos, each object alike.

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


# Configs of protocols by the names that commands know.
PROTOCOLS: Mapping[str, Mapping[str, Any]] = {
    'davis': {'type': 'JFDavisProtocol'},
    'davis-all-frames': {
        'type': 'JFDavisProtocol',
        'skip_first': False,
        'skip_last': False,
    },
    'appearance': {'type': 'JFAppearanceProtocol'},
    'appearance-all-frames': {'type': 'JFAppearanceProtocol', 'skip_first': False},
    'sav': {'type': 'JFSAVProtocol'},
    'sav-all-frames': {'type': 'JFSAVProtocol', 'skip_ends': False},
}


class JFProtocol(ABC):
    """What the accumulator asks of a protocol."""

    @abstractmethod
    def begin(self, annotated_frames: Sequence[int]) -> None:
        """Start a video."""

    @abstractmethod
    def objects(
        self, frame_index: int, truth: Collection[int], predicted: Collection[int]
    ) -> tuple[int, ...]:
        """Choose the objects that count on an annotated frame.

        Args:
            truth: Objects with a pixel of ground truth on the frame.
            predicted: Objects with a predicted pixel on the frame.
        """

    @abstractmethod
    def reported(self) -> frozenset[int]:
        """Objects of the video that are reported at its end."""


@TASK_UTILS.register_module()
class JFDavisProtocol(JFProtocol):
    """That of DAVIS 2017 for semi-supervised segmentation.

    The objects of the first annotated frame that shows any count; on that frame
    they are given, and the last annotated frame is left out as well.

    Args:
        skip_first: Leave out the frame on which the objects are given.
        skip_last: Leave out the last annotated frame.
    """

    def __init__(self, *, skip_first: bool = True, skip_last: bool = True) -> None:
        self.skip_first = skip_first
        self.skip_last = skip_last
        self._last_frame = -1
        self._objects: tuple[int, ...] = ()

    def __str__(self) -> str:
        """What counts."""
        return (
            f'JFDavisProtocol(skip_first={self.skip_first}, skip_last='
            f'{self.skip_last}): objects of the first annotated frame that shows any'
        )

    def begin(self, annotated_frames: Sequence[int]) -> None:
        """Start a video and note its last annotated frame."""
        self._last_frame = annotated_frames[-1] if annotated_frames else -1
        self._objects = ()

    def objects(
        self,
        frame_index: int,
        truth: Collection[int],
        predicted: Collection[int],
    ) -> tuple[int, ...]:
        """Choose the objects of the first frame that shows any."""
        if not self._objects:
            self._objects = tuple(sorted(truth))
            if self.skip_first:
                return ()
        left_out = self.skip_last and frame_index == self._last_frame
        return () if left_out else self._objects

    def reported(self) -> frozenset[int]:
        """Objects of the first frame that shows any."""
        return frozenset(self._objects)


@TASK_UTILS.register_module()
class JFAppearanceProtocol(JFProtocol):
    """All objects, each after the frame of its first appearance.

    For videos whose objects appear late: an object is prompted on the first
    annotated frame that shows it, and counts on every later annotated frame, the
    last one included.

    Args:
        skip_first: Leave out the frame on which an object appears.
        skip_last: Leave out the last annotated frame.
    """

    def __init__(self, *, skip_first: bool = True, skip_last: bool = False) -> None:
        self.skip_first = skip_first
        self.skip_last = skip_last
        self._last_frame = -1
        self._seen: set[int] = set()

    def __str__(self) -> str:
        """What counts."""
        return (
            f'JFAppearanceProtocol(skip_first={self.skip_first}, skip_last='
            f'{self.skip_last}): each object from its first annotated frame on'
        )

    def begin(self, annotated_frames: Sequence[int]) -> None:
        """Start a video and note its last annotated frame."""
        self._last_frame = annotated_frames[-1] if annotated_frames else -1
        self._seen = set()

    def objects(
        self,
        frame_index: int,
        truth: Collection[int],
        predicted: Collection[int],
    ) -> tuple[int, ...]:
        """Choose the objects that an annotated frame has shown."""
        before = set(self._seen)
        self._seen.update(truth)
        if self.skip_last and frame_index == self._last_frame:
            return ()
        return tuple(sorted(before if self.skip_first else self._seen))

    def reported(self) -> frozenset[int]:
        """All objects of the ground truth."""
        return frozenset(self._seen)


@TASK_UTILS.register_module()
class JFSAVProtocol(JFProtocol):
    """That of the evaluator published with SA-V (Ravi et al., 2024).

    An object counts from the first evaluated frame on which ground truth or
    prediction shows it; ids that only predictions show are not reported.

    Args:
        skip_ends: Leave out the first and the last annotated frame.
    """

    def __init__(self, *, skip_ends: bool = True) -> None:
        self.skip_ends = skip_ends
        self._ends: tuple[int, ...] = ()
        self._seen: set[int] = set()
        self._true: set[int] = set()

    def __str__(self) -> str:
        """What counts."""
        return (
            f'JFSAVProtocol(skip_ends={self.skip_ends}): each object from the first '
            'evaluated frame on which ground truth or prediction shows it'
        )

    def begin(self, annotated_frames: Sequence[int]) -> None:
        """Start a video and note its first and last annotated frame."""
        self._ends = (*annotated_frames[:1], *annotated_frames[-1:])
        self._seen = set()
        self._true = set()

    def objects(
        self, frame_index: int, truth: Collection[int], predicted: Collection[int]
    ) -> tuple[int, ...]:
        """Choose the objects shown so far, by ground truth or prediction."""
        if self.skip_ends and frame_index in self._ends:
            return ()
        self._true.update(truth)
        self._seen.update(truth, predicted)
        return tuple(sorted(self._seen))

    def reported(self) -> frozenset[int]:
        """All objects that the ground truth of an evaluated frame shows."""
        return frozenset(self._true)


@dataclass(slots=True)
class _Track:
    """Scores of one object so far."""

    frames: list[int] = field(default_factory=list)
    j: list[float] = field(default_factory=list)
    f: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameObjects:
    """Objects of an annotated frame.

    Attributes:
        frame_index: Position in the video.
        frame_name: For reports.
        truth: Objects with a pixel of ground truth.
        shown: Objects with a predicted pixel.
        predicted: Objects of which there is a prediction, be it empty; None where the
            frame was not predicted.
        by_object: Whether each object has a prediction of its own, which may lack.
    """

    frame_index: int
    frame_name: str
    truth: Collection[int]
    shown: Collection[int]
    predicted: Collection[int] | None
    by_object: bool = False


class ScoreTracks:
    """Keeps the scores of the objects that count.

    Args:
        protocol: Says which count.
    """

    def __init__(self, protocol: JFProtocol) -> None:
        self._protocol = protocol
        self._tracks: dict[int, _Track] = {}
        self._true: set[int] = set()
        self._shown: set[int] = set()
        self._predicted: set[int] = set()
        self._missing_frames: list[str] = []

    def begin(self, annotated_frames: Sequence[int]) -> None:
        """Start a video."""
        self._protocol.begin(annotated_frames)
        self._tracks = {}
        self._true, self._shown, self._predicted = set(), set(), set()
        self._missing_frames = []

    def choose(self, frame: FrameObjects) -> tuple[int, ...]:
        """Choose the objects that count on an annotated frame."""
        chosen = self._protocol.objects(frame.frame_index, frame.truth, frame.shown)
        self._true.update(frame.truth)
        self._shown.update(frame.shown)
        if frame.predicted is None:
            self._missing_frames += [frame.frame_name] if chosen else []
            return chosen
        self._predicted.update(frame.predicted)
        if frame.by_object:
            lacking = [i for i in chosen if i not in frame.predicted]
            self._missing_frames += [f'{frame.frame_name} of {i}' for i in lacking]
        return chosen

    def add(
        self, frame_index: int, object_ids: Sequence[int], scores: FrameScores
    ) -> None:
        """Keep the scores of a frame."""
        for object_id, j, f in zip(object_ids, scores.j, scores.f, strict=True):
            track = self._tracks.setdefault(object_id, _Track())
            track.frames.append(frame_index)
            track.j.append(j)
            track.f.append(f)

    def finish(self, video_name: str) -> VideoScores:
        """Sum the video up.

        Args:
            video_name: As in the split's list.
        """
        reported = self._protocol.reported()
        objects = tuple(
            ObjectScores(
                object_id=object_id,
                frames=tuple(track.frames),
                frame_j=tuple(track.j),
                frame_f=tuple(track.f),
            )
            for object_id, track in sorted(self._tracks.items())
            if object_id in reported
        )
        scored = {scores.object_id for scores in objects}
        gaps = PredictionGaps(
            missing_frames=tuple(self._missing_frames),
            missing_objects=tuple(sorted(scored - self._predicted)),
            extra_objects=tuple(sorted(self._shown - self._true)),
        )
        return VideoScores(
            video_name=video_name,
            objects=objects,
            gaps=gaps,
            protocol=str(self._protocol),
        )
