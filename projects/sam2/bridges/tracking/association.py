"""Association of detections with tracks, and the life of a track; no model is needed.

A track begins where a detection is not explained by the tracks on the frame. It ends
after it was absent for a while, or after the detector saw nothing in its place several
times. All functions return new values; nothing is changed in place.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment  # type: ignore[attr-defined]
from torch import Tensor

from ...apis.inputs import read_flag, read_number, read_whole_number, setting

Matrix = NDArray[np.float64]


@dataclass(kw_only=True)
class TrackRules:
    """When detections and tracks are the same object, when tracks begin and end.

    Overlaps are those of masks, between 0 and 1. Times are counted in frames or in
    runs of the detector.

    Attributes:
        match_iou: Least IoU of a detection and a track that are the same object.
        match_classes: Only detections of the track's class may match it. Otherwise the
            class of a track is the one with the highest sum of detection scores.
        start_score: Least score of a detection that begins a track.
        max_covered: Largest share of a detection that tracks of its class may cover if
            it begins a track.
        correct_iou: A matched track below this IoU has drifted: it is prompted again
            with the detection. 0 never corrects.
        correct_score: Least score of a detection that corrects a track.
        duplicate_iou: Two tracks above this IoU follow one object. The one whose mask
            jumped there is absent on the frame and keeps the memory of its own object.
        max_absent: Number of frames after which an absent track ends. Until then it
            keeps its id when it returns.
        max_missed: Number of runs of the detector in a row that may find nothing where
            a visible track is; it then ends. None trusts the tracks.
        max_objects: Largest number of tracks. The strongest detections come first, and
            take the places of tracks that are absent.

    Raises:
        ValueError: If a number is out of range.
    """

    match_iou: float = setting(read_number, 0.5, least=0, most=1)
    match_classes: bool = setting(read_flag, default=False)
    start_score: float = setting(read_number, 0.5, least=0)
    max_covered: float = setting(read_number, 0.5, least=0, most=1)
    correct_iou: float = setting(read_number, 0.0, least=0, most=1)
    correct_score: float = setting(read_number, 0.7, least=0)
    duplicate_iou: float = setting(read_number, 0.8, least=0, most=1)
    max_absent: int = setting(read_whole_number, 60, least=0)
    max_missed: int | None = None
    max_objects: int = setting(read_whole_number, 100, least=1)

    def __post_init__(self) -> None:
        """Check what may be None."""
        if self.max_missed is not None:
            self.max_missed = read_whole_number(
                self.max_missed, name='max_missed', least=0
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """An object that is followed, or was seen and may return.

    Attributes:
        object_id: Its id, which no other track of the video ever has.
        votes: Sum of the scores of its detections, by class.
        num_detections: Number of its detections.
        num_absent: Number of frames since it was last visible.
        num_missed: Runs of the detector in a row that saw nothing in its place.
    """

    object_id: int
    votes: Mapping[int, float] = field(default_factory=dict)
    num_detections: int = 0
    num_absent: int = 0
    num_missed: int = 0

    @property
    def label(self) -> int:
        """The class with the most votes; of equal ones the lowest."""
        return min(self.votes, key=lambda label: (-self.votes[label], label))

    @property
    def score(self) -> float:
        """Mean score of its detections."""
        return sum(self.votes.values()) / self.num_detections

    def seen(self, *, visible: bool) -> 'Track':
        """The track after a frame."""
        return replace(self, num_absent=0 if visible else self.num_absent + 1)

    def detected(self, label: int, score: float) -> 'Track':
        """The track after a detection."""
        votes = {**self.votes, label: self.votes.get(label, 0.0) + score}
        num_detections = self.num_detections + 1
        return replace(self, votes=votes, num_detections=num_detections, num_missed=0)

    def missed(self) -> 'Track':
        """The track after the detector saw nothing in its place."""
        return replace(self, num_missed=self.num_missed + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """Overlaps of two sets of masks.

    Attributes:
        intersection: (N, M), pixels that a mask of both sets covers.
        areas: (N,) and (M,), pixels.
    """

    intersection: Matrix
    areas: tuple[Matrix, Matrix]

    @property
    def ious(self) -> Matrix:
        """Intersection over union, (N, M); 0 where both masks are empty."""
        union = self.areas[0][:, None] + self.areas[1] - self.intersection
        return self.intersection / np.maximum(union, 1)


def overlap_of(masks: Tensor, others: Tensor) -> Overlap:
    """Measure the overlaps of all pairs of masks.

    Args:
        masks: (N, height, width), bool.
        others: (M, height, width), bool.
    """
    # Sums of products of zeros and ones are exact in float32 up to 2**24 pixels.
    first, second = masks.flatten(1).float(), others.flatten(1).float()
    return Overlap(
        intersection=_as_array(first @ second.T),
        areas=(_as_array(first.sum(dim=1)), _as_array(second.sum(dim=1))),
    )


def _as_array(values: Tensor) -> Matrix:
    array: Matrix = values.cpu().numpy().astype(np.float64)
    return array


@dataclass(frozen=True, slots=True, kw_only=True)
class Association:
    """What the detections of a frame mean for the tracks.

    Attributes:
        matches: Pairs of a track and its detection, both as positions.
        corrections: The matches whose track has drifted.
        starts: Detections that begin tracks, the strongest first.
    """

    matches: tuple[tuple[int, int], ...]
    corrections: tuple[tuple[int, int], ...]
    starts: tuple[int, ...]


def associate(
    *,
    track_masks: Tensor,
    track_labels: Sequence[int],
    masks: Tensor,
    labels: Sequence[int],
    scores: Sequence[float],
    rules: TrackRules,
) -> Association:
    """Associate the detections of a frame with the tracks.

    Args:
        track_masks: (N, height, width), bool; empty where a track is absent.
        track_labels: Classes of the tracks, N.
        masks: Those of the detections, (D, height, width), bool.
        labels: Classes of the detections, D.
        scores: Scores of the detections, D.
        rules: When they are the same object.
    """
    overlap = overlap_of(track_masks, masks)
    same_class = np.equal.outer(np.array(track_labels), np.array(labels))
    ious = overlap.ious
    matches = match(ious * same_class if rules.match_classes else ious, rules.match_iou)
    corrections = [
        (track, detection)
        for track, detection in matches
        if ious[track, detection] < rules.correct_iou
        and scores[detection] >= rules.correct_score
    ]
    # Tracks of the class may cover a detection together, each of them a part of it.
    covered = (overlap.intersection * same_class).sum(axis=0)
    explained = covered > rules.max_covered * overlap.areas[1]
    explained |= (ious >= rules.match_iou).any(axis=0)
    explained |= overlap.areas[1] == 0
    explained[[detection for _, detection in matches]] = True
    explained |= np.array(scores, dtype=float) < rules.start_score
    candidates = np.flatnonzero(~explained)
    by_score = sorted(candidates.tolist(), key=lambda index: -scores[index])
    return Association(
        matches=tuple(matches),
        corrections=tuple(corrections),
        starts=tuple(_without_duplicates(by_score, masks, rules.match_iou)),
    )


def match(weights: Matrix, threshold: float) -> list[tuple[int, int]]:
    """Match rows with columns so that the sum of the weights is largest.

    Args:
        weights: (N, M), such as IoU.
        threshold: Pairs below it do not match; pairs of weight 0 never do.

    Returns:
        Pairs of row and column, by row.
    """
    allowed = np.where(weights >= threshold, weights, 0.0)
    rows, columns = linear_sum_assignment(allowed, maximize=True)
    pairs = zip(rows.tolist(), columns.tolist(), strict=True)
    return [(row, column) for row, column in pairs if allowed[row, column] > 0]


def _without_duplicates(
    candidates: Sequence[int], masks: Tensor, threshold: float
) -> list[int]:
    """Drop each candidate that overlaps a stronger one, whatever their classes."""
    chosen = masks[list(candidates)]
    ious = overlap_of(chosen, chosen).ious
    kept: list[int] = []
    for row in range(len(candidates)):
        if not (ious[row, kept] >= threshold).any():
            kept.append(row)
    return [candidates[row] for row in kept]


def find_intruders(masks: Tensor, previous: Tensor, threshold: float) -> list[int]:
    """Find the tracks that left their object for that of another track.

    Of two tracks with nearly the same mask, the intruder is the one whose mask was
    elsewhere on the previous frame; if that does not tell, the later one.

    Args:
        masks: (N, height, width), bool.
        previous: Those of the previous frame, (N, height, width), bool.
        threshold: Least IoU of two tracks that follow one object.

    Returns:
        Positions of the intruders.
    """
    ious = overlap_of(masks, masks).ious
    moved = overlap_of(masks, previous).ious.diagonal()
    intruders: set[int] = set()
    order = sorted(range(len(masks)), key=lambda row: (-moved[row], row))
    for position, row in enumerate(order):
        owners = [other for other in order[:position] if other not in intruders]
        if (ious[row, owners] >= threshold).any():
            intruders.add(row)
    return sorted(intruders)


def make_room(
    tracks: Mapping[int, Track], starts: Sequence[int], rules: TrackRules
) -> tuple[list[int], list[int]]:
    """Choose the detections that begin tracks while ``max_objects`` limits them.

    Args:
        tracks: By id.
        starts: Detections, the strongest first.

    Returns:
        The detections that begin tracks, and the ids of absent tracks that end for
        them: first the one that was absent longest.
    """
    absent = [track for track in tracks.values() if track.num_absent]
    absent.sort(key=lambda track: (-track.num_absent, track.object_id))
    num_free = rules.max_objects - len(tracks)
    chosen = list(starts[: max(num_free + len(absent), 0)])
    ended = absent[: max(len(chosen) - num_free, 0)]
    return chosen, [track.object_id for track in ended]


def has_ended(track: Track, rules: TrackRules) -> bool:
    """Whether a track was absent, or missed by the detector, for too long."""
    if track.num_absent > rules.max_absent:
        return True
    return rules.max_missed is not None and track.num_missed > rules.max_missed
