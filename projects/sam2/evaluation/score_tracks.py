"""Scores of one video as they come in, and what its predictions lack."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from projects.sam2.evaluation.frame_scores import FrameScores
from projects.sam2.evaluation.protocol import JFProtocol
from projects.sam2.evaluation.scores import (
    ObjectScores,
    PredictionGaps,
    VideoScores,
)


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
        """Start a video.

        Args:
            annotated_frames: Frames with ground truth, ascending.
        """
        self._protocol.begin(annotated_frames)
        self._tracks = {}
        self._true, self._shown, self._predicted = set(), set(), set()
        self._missing_frames = []

    def choose(self, frame: FrameObjects) -> tuple[int, ...]:
        """Choose the objects that count on an annotated frame.

        Args:
            frame: Its objects; frames come in ascending order, each once.

        Returns:
            Ids, ascending.
        """
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
        """Keep the scores of a frame.

        Args:
            frame_index: Position in the video.
            object_ids: Those that were chosen.
            scores: Theirs, in the same order.
        """
        for object_id, j, f in zip(object_ids, scores.j, scores.f, strict=True):
            track = self._tracks.setdefault(object_id, _Track())
            track.frames.append(frame_index)
            track.j.append(j)
            track.f.append(f)

    def finish(self, video_name: str) -> VideoScores:
        """Sum the video up.

        Args:
            video_name: As in the split's list.

        Returns:
            Scores of the objects that the protocol reports, and the gaps.
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
