"""Masks from a grid of points on one crop, filtered before they cost memory."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from projects.sam2.apis.image_decoding import (
    EncodedImage,
    MaskRepair,
    decode_low_res,
    encode_images,
)
from projects.sam2.models import SAM2
from projects.sam2.ops import (
    Crop,
    EncodedMask,
    count_pixels,
    encode_masks,
    masks_to_boxes,
    upsample_logits,
)
from projects.sam2.structures import PointLabel, PointPrompt

__all__ = ['CandidateCounts', 'CandidateFilter', 'Candidates', 'find_candidates']

EDGE_TOLERANCE = 20.0  # pixels between a box and the edge of a crop that cuts it
MASKS_PER_CHUNK = 16  # enlarged to the size of the crop at a time


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateFilter:
    """Which masks are worth keeping.

    Attributes:
        points_per_batch: Points decoded at once.
        min_iou: Estimated IoU that a mask must exceed.
        min_stability: Stability that a mask must reach.
        stability_offset: How far the threshold moves for the stability.
        threshold: Masks are where logits exceed it.
        repaired_area: Holes and parts of up to so many pixels of the stride-4 mask
            are closed and dropped.
        refines: Each mask is fed back to the model once.
        multimask: Three masks are decoded at each point, not one.
    """

    points_per_batch: int
    min_iou: float
    min_stability: float
    stability_offset: float
    threshold: float
    repaired_area: float
    refines: bool
    multimask: bool


@dataclass(slots=True, kw_only=True)
class CandidateCounts:
    """Counts the masks of an image that pass each test, to explain an empty result.

    Attributes:
        num_decoded: Masks that the model decoded.
        best_iou: Largest estimated IoU of the decoded masks.
        num_promising: Masks whose estimated IoU exceeds the threshold.
        best_stability: Largest stability of the promising masks.
        num_stable: Promising masks whose stability reaches the threshold.
    """

    num_decoded: int = 0
    best_iou: float = -math.inf
    num_promising: int = 0
    best_stability: float = -math.inf
    num_stable: int = 0

    def explain(self, wanted: CandidateFilter) -> str:
        """Explain which test no mask passed.

        Args:
            wanted: The thresholds.

        Returns:
            The reason and the setting to change, to be put in brackets.
        """
        nothing = f'0 masks of {self.num_decoded} candidates'
        if self.num_decoded and self.best_iou == -math.inf:
            return f'{nothing}: the model predicts NaN; check its weights'
        if not self.num_promising:
            return (
                f'{nothing}: the best predicted IoU, {self.best_iou:.4g}, does not '
                f'exceed pred_iou_thresh {wanted.min_iou:g}; lower it'
            )
        if not self.num_stable:
            return (
                f'{nothing}: {self.num_promising} exceed pred_iou_thresh '
                f'{wanted.min_iou:g}, but the best stability score, '
                f'{max(self.best_stability, 0):.4g}, is below stability_score_thresh '
                f'{wanted.min_stability:g}; lower it'
            )
        return (
            f'{nothing}: the edges of crops cut all {self.num_stable} stable masks; '
            f'raise crop_overlap_ratio'
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class EnlargedMasks:
    """Some masks at the size of their crop.

    Attributes:
        logits: (N, height, width).
        ious: Estimated IoU, (N,).
        points: The points that led to them, shares of the crop's sides, (N, 2).
    """

    logits: Tensor
    ious: Tensor
    points: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """Masks of an image with what speaks for them; all on the CPU.

    Attributes:
        encoded: Masks as COCO run-length encoding, at the size of the image.
        boxes: (O, 4), first and last pixel ``(x, y, x, y)``; zeros of an empty mask.
        ious: Estimated IoU, (O,).
        stabilities: (O,).
        points: The points that led to them, (O, 2).
        crops: The crops in which they were found, one for each.
    """

    encoded: list[EncodedMask]
    boxes: Tensor
    ious: Tensor
    stabilities: Tensor
    points: Tensor
    crops: list[Crop]

    def select(self, index: Tensor) -> 'Candidates':
        """Take some of the masks.

        Args:
            index: Positions, (N,), int64.

        Returns:
            Those masks, in this order.
        """
        positions = index.tolist()
        return Candidates(
            encoded=[self.encoded[position] for position in positions],
            boxes=self.boxes[index],
            ious=self.ious[index],
            stabilities=self.stabilities[index],
            points=self.points[index],
            crops=[self.crops[position] for position in positions],
        )

    def with_masks(self, encoded: list[EncodedMask], boxes: Tensor) -> 'Candidates':
        """Exchange the masks.

        Args:
            encoded: One for each.
            boxes: (O, 4), as they are given by ``masks_to_boxes``.

        Returns:
            The same points and scores with the new masks.
        """
        return replace(self, encoded=encoded, boxes=_of_empty_masks_zero(boxes))

    @classmethod
    def joined(cls, parts: Sequence['Candidates']) -> 'Candidates':
        """Put masks one after another.

        Args:
            parts: Masks of one image.

        Returns:
            All of them.
        """
        nothing = torch.zeros(0)
        return cls(
            encoded=[code for part in parts for code in part.encoded],
            boxes=torch.cat([nothing.view(0, 4), *(part.boxes for part in parts)]),
            ious=torch.cat([nothing, *(part.ious for part in parts)]),
            stabilities=torch.cat([nothing, *(part.stabilities for part in parts)]),
            points=torch.cat([nothing.view(0, 2), *(part.points for part in parts)]),
            crops=[crop for part in parts for crop in part.crops],
        )


def find_candidates(
    model: SAM2,
    image: NDArray[np.uint8],
    crop: Crop,
    grid: NDArray[np.float64],
    wanted: CandidateFilter,
    *,
    counts: CandidateCounts,
) -> Candidates:
    """Decode three masks at each point of a crop and keep the good ones.

    Masks are judged by their estimated IoU while they are small; only those left are
    enlarged, a few at a time.

    Args:
        model: The model.
        image: (height, width, 3), RGB, the whole image.
        crop: The part to look at.
        grid: Points as shares of the sides of the crop, (P, 2).
        wanted: What makes a mask good.
        counts: Incremented in place.

    Returns:
        The masks, in the order of the points.
    """
    left, top, right, bottom = crop.box
    (encoded,) = encode_images(model, [image[top:bottom, left:right]])
    repair = MaskRepair(
        max_hole_area=wanted.repaired_area, max_speck_area=wanted.repaired_area
    )
    shares = torch.from_numpy(grid).float()
    size = (image.shape[0], image.shape[1])
    parts = []
    for points in shares.split(wanted.points_per_batch):
        logits, ious, owners = _promising(model, encoded, points, wanted, counts)
        for chunk in torch.arange(len(ious)).split(MASKS_PER_CHUNK):
            enlarged = upsample_logits(repair(logits[chunk]), crop.size)
            masks = EnlargedMasks(
                logits=enlarged[:, 0], ious=ious[chunk], points=owners[chunk]
            )
            parts.append(_judge(masks, crop, size, wanted, counts))
    return Candidates.joined(parts)


def _promising(
    model: SAM2,
    image: EncodedImage,
    points: Tensor,
    wanted: CandidateFilter,
    counts: CandidateCounts,
) -> tuple[Tensor, Tensor, Tensor]:
    """Masks at points, (P, 2) shares, that the model itself expects enough of.

    Logits (N, 1, H4, W4), their estimated IoU (N,), and the points (N, 2).
    """
    decoded = decode_low_res(
        model,
        image,
        points=_positive(points),
        earlier_logits=None,
        multimask=wanted.multimask,
    )
    owners = points.repeat_interleave(decoded.ious.shape[1], dim=0)
    logits, ious = decoded.logits.flatten(0, 1)[:, None], decoded.ious.flatten()
    if wanted.refines:
        earlier = decoded.fed_back.flatten(0, 1)[:, None]
        refined = [
            decode_low_res(
                model,
                image,
                points=_positive(owners[chunk]),
                earlier_logits=earlier[chunk],
                multimask=False,
            )
            for chunk in torch.arange(len(owners)).split(wanted.points_per_batch)
        ]
        logits = torch.cat([one.logits for one in refined])
        ious = torch.cat([one.ious for one in refined])[:, 0]
    ious = ious.float().cpu()
    good = ious > wanted.min_iou
    counts.num_decoded += len(ious)
    counts.best_iou = max(counts.best_iou, _largest(ious))
    counts.num_promising += int(good.sum())
    return logits[good], ious[good], owners[good]


def _largest(values: Tensor) -> float:
    """The largest of numbers, (N,), that is not NaN; -inf without any."""
    numbers = values[~values.isnan()]
    return float(numbers.max()) if len(numbers) else -math.inf


def _positive(points: Tensor) -> PointPrompt:
    """Points, (P, 2), each on an object of its own."""
    labels = torch.full((len(points), 1), PointLabel.POSITIVE, dtype=torch.int32)
    return PointPrompt(coords=points[:, None], labels=labels)


def _judge(
    masks: EnlargedMasks,
    crop: Crop,
    size: tuple[int, int],
    wanted: CandidateFilter,
    counts: CandidateCounts,
) -> Candidates:
    """Keep the stable masks of a crop that its edge does not cut."""
    threshold, offset = wanted.threshold, wanted.stability_offset
    inner = count_pixels(masks.logits > threshold + offset).float()
    outer = count_pixels(masks.logits > threshold - offset).float()
    stabilities = (inner / outer).cpu()
    # An empty mask is 0 / 0, which reaches no stability.
    counts.best_stability = max(counts.best_stability, _largest(stabilities))
    stable = torch.nonzero(stabilities >= wanted.min_stability)[:, 0]
    counts.num_stable += len(stable)
    binary = masks.logits[stable.to(masks.logits.device)] > threshold
    boxes = _of_empty_masks_zero(masks_to_boxes(binary[:, None]).cpu())
    left, top, *_ = crop.box
    boxes = boxes + torch.tensor([left, top, left, top], dtype=boxes.dtype)
    whole = ~_cut_by_crop(boxes, crop, size)
    kept = stable[whole]
    origin = torch.tensor([left, top], dtype=torch.float32)
    extent = torch.tensor([crop.size[1], crop.size[0]], dtype=torch.float32)
    return Candidates(
        encoded=_encode_in_image(binary.cpu()[whole], crop, size),
        boxes=boxes[whole],
        ious=masks.ious[kept],
        stabilities=stabilities[kept],
        points=masks.points[kept] * extent + origin,
        crops=[crop] * len(kept),
    )


def _cut_by_crop(boxes: Tensor, crop: Crop, size: tuple[int, int]) -> Tensor:
    """Does a box, (O, 4), lie near an edge of the crop that is none of the image?"""
    edges = torch.tensor(crop.box, dtype=boxes.dtype)
    image_edges = torch.tensor([0, 0, size[1], size[0]], dtype=boxes.dtype)
    near_crop = (boxes - edges).abs() <= EDGE_TOLERANCE
    near_image = (boxes - image_edges).abs() <= EDGE_TOLERANCE
    return (near_crop & ~near_image).any(dim=1)


def _encode_in_image(
    masks: Tensor, crop: Crop, size: tuple[int, int]
) -> list[EncodedMask]:
    """Masks of a crop, (O, h, w), encoded at the size of the image."""
    left, top, right, bottom = crop.box
    whole = np.zeros((len(masks), *size), dtype=bool)
    whole[:, top:bottom, left:right] = masks.numpy()
    return encode_masks(whole) if len(masks) else []


def _of_empty_masks_zero(boxes: Tensor) -> Tensor:
    """Boxes, (O, 4), those of empty masks being zeros."""
    empty = (boxes[:, 2:] < boxes[:, :2]).any(dim=1, keepdim=True)
    return torch.where(empty, 0.0, boxes)
