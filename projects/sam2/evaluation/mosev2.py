"""J and F of MOSEv2: a contour threshold that adapts to the object, and its parts.

The F of DAVIS matches contours within 0.8 % of the frame's diagonal, which is more than
the size of a small object. MOSEv2 (Ding et al., 2025) matches within a tenth of the
square root of the object's area, at most DAVIS's threshold, and calls the result F with
a dot. Besides the mean over all frames it reports the frames on which the object is
gone, and those after it has returned.

The definition is that of ``MOSEv2/sam2_rcms/tools/{metricsv2,score}.py`` in the
repository henghuiding/MOSE-api, so that numbers equal the server's.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from .jf import TOLERANCE, FrameScores, Mask, Size, score_masks
from .scores import ObjectScores, VideoScores, summarise

AREA_TOLERANCE = 0.1  # radius within which contours match, as a share of sqrt(area)


def adaptive_radius(area: int, size: Size) -> float:
    """Radius in pixels within which the contours of an object match.

    Args:
        area: Of the object in the ground truth, in pixels.
        size: Height and width of the frame in pixels.

    Returns:
        A whole number for small objects; that of DAVIS before it is rounded for large
        ones, and for objects that are not there.
    """
    largest = TOLERANCE * float(np.linalg.norm(size))
    return (
        min(largest, math.ceil(AREA_TOLERANCE * math.sqrt(area))) if area else largest
    )


def score_masks_mosev2(
    pred: Sequence[Mask], truth: Sequence[Mask], void: Mask | None = None
) -> FrameScores:
    """Score masks as MOSEv2's server does.

    Args:
        pred: A mask (height, width) for each object, bool.
        truth: Likewise.
        void: (height, width), bool, pixels to ignore.

    Returns:
        J, with a pixel added to intersection and union, and F with a dot.

    Raises:
        ValueError: If the masks differ in size or number.
    """
    j: list[float] = []
    f: list[float] = []
    for pred_mask, true_mask in zip(pred, truth, strict=True):
        size = (true_mask.shape[0], true_mask.shape[1])
        radius = adaptive_radius(int(np.count_nonzero(true_mask)), size)
        scores = score_masks([pred_mask], [true_mask], void, radius=radius)
        intersection, union = pred_mask & true_mask, pred_mask | true_mask
        if void is not None:
            intersection, union = intersection & ~void, union & ~void
        # The added pixel also keeps a mask where nothing is from costing all of J.
        j.append((np.count_nonzero(intersection) + 1) / (np.count_nonzero(union) + 1))
        f.extend(scores.f)
    return FrameScores(j=tuple(j), f=tuple(f))


@dataclass(frozen=True, slots=True, kw_only=True)
class PartScores:
    """Mean J and F over parts of videos, 0 to 100; NaN where no object has the part.

    Attributes:
        j: Region similarity.
        f: Contour accuracy.
        num_objects: Objects that have the part.
    """

    j: float
    f: float
    num_objects: int

    @property
    def j_and_f(self) -> float:
        """Mean of J and F."""
        return (self.j + self.f) / 2


def disappearance_scores(videos: Sequence[VideoScores]) -> PartScores:
    """Average over the frames on which an object is gone.

    Each gap counts equally within an object, and each object equally. A gap that begins
    on the first scored frame does not count.
    """
    return _part_scores(videos, shown=False)


def reappearance_scores(videos: Sequence[VideoScores]) -> PartScores:
    """Average over the frames from the return of an object to its next gap.

    Each return counts equally within an object, and each object equally.
    """
    return _part_scores(videos, shown=True)


def _part_scores(videos: Sequence[VideoScores], *, shown: bool) -> PartScores:
    rows = []
    for video in videos:
        for obj in video.objects:
            parts = _later_runs(obj, shown=shown)
            if parts:
                j = np.mean([np.mean(obj.frame_j[part]) for part in parts])
                f = np.mean([np.mean(obj.frame_f[part]) for part in parts])
                rows.append((j, f))
    if not rows:
        return PartScores(j=math.nan, f=math.nan, num_objects=0)
    j, f = 100 * np.mean(rows, axis=0)
    return PartScores(j=float(j), f=float(f), num_objects=len(rows))


def _later_runs(obj: ObjectScores, *, shown: bool) -> list[slice]:
    """Runs of frames that show the object or not, except one from the first frame."""
    changes = (np.flatnonzero(np.diff(obj.shown)) + 1).tolist()
    runs = pairwise([*changes, len(obj.shown)])
    return [slice(a, b) for a, b in runs if obj.shown[a] == shown]


def describe_mosev2(videos: Sequence[VideoScores]) -> str:
    """Describe the scores of MOSEv2 in a line, in percent."""
    mean = summarise(videos)
    gone, back = disappearance_scores(videos), reappearance_scores(videos)
    return (
        f'MOSEv2: J&Ḟ {mean.j_and_f:.2f}, J {mean.j:.2f}, Ḟ {mean.f:.2f}; J&Ḟ_d while '
        f'gone {gone.j_and_f:.2f} ({gone.num_objects} objects), J&Ḟ_r after the return '
        f'{back.j_and_f:.2f} ({back.num_objects} objects)'
    )
