"""Masks from a grid of points on one crop, filtered before they cost memory."""

import inspect
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, TypedDict

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from typing_extensions import Self

from ..models import SAM2
from ..ops import (
    OVERLAP_RATIO,
    Crop,
    EncodedMask,
    PlainRuns,
    count_encoded_pixels,
    count_pixels,
    crops_of_image,
    decode_masks,
    encode_masks,
    grid_of_points,
    masks_to_boxes,
    plain_runs,
    suppress_boxes,
    upsample_logits,
    without_small_regions,
)
from ..structures import PointLabel, PointPrompt
from .building import (
    Device,
    build_sam2,
    find_pretrained,
    model_of,
)
from .image_predictor import (
    EncodedImage,
    MaskRepair,
    SAM2ImagePredictor,
    decode_low_res,
    encode_images,
)
from .inputs import (
    POINT_MARGIN,
    ImageLike,
    read_flag,
    read_image,
    read_number,
    read_whole_number,
)

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
        previous_logits=None,
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
                previous_logits=earlier[chunk],
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


OUTPUT_MODES = ('binary_mask', 'uncompressed_rle', 'coco_rle')
Segmentation = NDArray[np.bool_] | EncodedMask | PlainRuns
# Smallest value of each whole number; (smallest, largest) of each other number.
COUNTS = {
    'points_per_side': 1,
    'points_per_batch': 1,
    'crop_n_layers': 0,
    'crop_n_points_downscale_factor': 1,
}
NUMBERS: dict[str, tuple[float | None, float | None]] = {
    'pred_iou_thresh': (None, 1.0),
    'stability_score_thresh': (None, 1.0),
    'stability_score_offset': (0.0, None),
    'mask_threshold': (None, None),
    'box_nms_thresh': (0.0, 1.0),
    'crop_nms_thresh': (0.0, 1.0),
    'crop_overlap_ratio': (0.0, 1.0),
    'min_mask_region_area': (0.0, None),
}
FLAGS = ('use_m2m', 'multimask_output')


class AutomaticMask(TypedDict):
    """One mask, under the names that users of SAM 2 know.

    Attributes:
        segmentation: (height, width), bool; or run lengths, where these are asked for.
        area: Pixels of the mask.
        bbox: ``[x, y, width, height]`` of the mask.
        predicted_iou: The model's own estimate.
        point_coords: The point that led to the mask, ``[[x, y]]``.
        stability_score: How little the mask changes with its threshold.
        crop_box: ``[x, y, width, height]`` of the crop it was found in.
    """

    segmentation: Segmentation
    area: int
    bbox: list[float]
    predicted_iou: float
    point_coords: list[list[float]]
    stability_score: float
    crop_box: list[int]


@dataclass(eq=False)
class SAM2AutomaticMaskGenerator:
    """Finds the masks of all that is in an image.

    Settings may be changed between images: ``generator.pred_iou_thresh = 0.6``.

    Attributes:
        model: As :func:`build_sam2` gives it, or a predictor, whose model is then
            shared.
        points_per_side: Points along a side of the image; squared for all of it. None
            where ``point_grids`` is given.
        points_per_batch: Points decoded at once.
        pred_iou_thresh: Masks that the model expects less of are dropped.
        stability_score_thresh: Masks less stable are dropped.
        stability_score_offset: How far the threshold moves for the stability.
        mask_threshold: Masks are where logits exceed it.
        box_nms_thresh: Largest IoU of the boxes of two masks that both stay.
        crop_n_layers: Look at crops as well, finer in each layer.
        crop_nms_thresh: As ``box_nms_thresh``, between masks of different crops.
        crop_overlap_ratio: Overlap of neighbouring crops, over the short side.
        crop_n_points_downscale_factor: Points along a side are divided by it in each
            layer.
        point_grids: In place of ``points_per_side``: for each layer, points as shares
            of the sides, (P, 2); they may lie 0.05 beyond the border.
        min_mask_region_area: Close holes and drop parts of fewer pixels.
        output_mode: Kind of ``segmentation``: ``'binary_mask'``,
            ``'uncompressed_rle'`` or ``'coco_rle'``.
        use_m2m: Feed each mask back to the model once, for a better one.
        multimask_output: Decode three masks at each point, not one.

    Raises:
        ValueError: If a setting has another type or is out of range, no point is left
            in a layer, or the grids do not fit the layers.
    """

    model: SAM2
    points_per_side: int | None = 32
    points_per_batch: int = 64
    pred_iou_thresh: float = 0.8
    stability_score_thresh: float = 0.95
    stability_score_offset: float = 1.0
    mask_threshold: float = 0.0
    box_nms_thresh: float = 0.7
    crop_n_layers: int = 0
    crop_nms_thresh: float = 0.7
    crop_overlap_ratio: float = OVERLAP_RATIO
    crop_n_points_downscale_factor: int = 1
    point_grids: Sequence[ArrayLike] | None = None
    min_mask_region_area: float = 0.0
    output_mode: Literal['binary_mask', 'uncompressed_rle', 'coco_rle'] = 'binary_mask'
    use_m2m: bool = False
    multimask_output: bool = True

    def __post_init__(self) -> None:
        """Check that the points fit the layers."""
        self._grids()
        self._counts = CandidateCounts()

    def __setattr__(self, name: str, value: object) -> None:
        """Read and check a setting."""
        if name in COUNTS and not (name == 'points_per_side' and value is None):
            value = read_whole_number(value, name=name, least=COUNTS[name])
        elif name in NUMBERS:
            least, most = NUMBERS[name]
            value = read_number(value, name=name, least=least, most=most)
        elif name in FLAGS:
            value = read_flag(value, name=name)
        elif name == 'output_mode' and value not in OUTPUT_MODES:
            msg = (
                f'output_mode is {value!r}; give one of '
                f'{", ".join(map(repr, OUTPUT_MODES))}'
            )
            raise ValueError(msg)
        elif name == 'model':
            value = model_of(value)
            self.__dict__.pop('predictor', None)  # cached, of the former model
        object.__setattr__(self, name, value)

    @classmethod
    def from_pretrained(
        cls,
        model_id: str,
        *,
        device: Device | None = None,
        **options: Any,
    ) -> Self:
        """Make a generator by its model's name on Hugging Face.

        Args:
            model_id: See :func:`find_pretrained`.
            device: Where the model goes; by default ``'cuda'`` where there is one.
            options: Others of :func:`build_sam2`, and attributes of the generator.

        Returns:
            The generator.

        Raises:
            OSError: If there is no such model, or no way to it.
        """
        names = set(inspect.signature(build_sam2).parameters) & set(options)
        build = {name: options.pop(name) for name in names}
        model = build_sam2(*find_pretrained(model_id), device=device, **build)
        return cls(model, **options)

    @cached_property
    def predictor(self) -> SAM2ImagePredictor:
        """An image predictor around the same model."""
        return SAM2ImagePredictor(self.model)

    @torch.no_grad()
    def generate(self, image: ImageLike) -> list[AutomaticMask]:
        """Segment everything.

        Args:
            image: (height, width, 3), uint8, RGB; or a PIL image of mode RGB.

        Returns:
            One entry for each mask, the most certain of the whole image first.

        Raises:
            ValueError: If the image is not RGB or not of 8 bits.
            TypeError: If it is no image at all.
        """
        pixels = read_image(image, name='The image')
        size = (pixels.shape[0], pixels.shape[1])
        crops = crops_of_image(
            size, self.crop_n_layers, overlap_ratio=self.crop_overlap_ratio
        )
        grids, wanted = self._grids(), self._filter()
        self._counts = CandidateCounts()
        found = Candidates.joined(
            [self._of_crop(pixels, crop, grids[crop.layer], wanted) for crop in crops]
        )
        if len(crops) > 1:
            # What was found in a small crop shows more detail.
            detail = 1 / torch.tensor([float(np.prod(c.size)) for c in found.crops])
            kept = suppress_boxes(found.boxes, detail, threshold=self.crop_nms_thresh)
            found = found.select(kept)
        if self.min_mask_region_area > 0:
            found = self._repaired(found)
        return list(self._as_dicts(found))

    def explain_nothing(self) -> str:
        """Explain why the last image has no mask.

        Returns:
            The reason, such as "0 masks of 3072 candidates: the best predicted
            IoU, 0.31, does not exceed pred_iou_thresh 0.8; lower it".
        """
        return self._counts.explain(self._filter())

    def _filter(self) -> CandidateFilter:
        """The thresholds, by the current settings."""
        return CandidateFilter(
            points_per_batch=self.points_per_batch,
            min_iou=self.pred_iou_thresh,
            min_stability=self.stability_score_thresh,
            stability_offset=self.stability_score_offset,
            threshold=self.mask_threshold,
            repaired_area=self.min_mask_region_area,
            refines=self.use_m2m,
            multimask=self.multimask_output,
        )

    def _grids(self) -> list[NDArray[np.float64]]:
        """Points of each layer, as shares of the sides."""
        if (self.points_per_side is None) == (self.point_grids is None):
            msg = (
                f'points_per_side is {self.points_per_side} and point_grids '
                f'{"is None" if self.point_grids is None else "are given"}; give one '
                f'of the two, and None for the other'
            )
            raise ValueError(msg)
        num_layers = self.crop_n_layers + 1
        if self.points_per_side is not None:
            factor = self.crop_n_points_downscale_factor
            sides = [self.points_per_side // factor**n for n in range(num_layers)]
            if min(sides) < 1:
                msg = f'points_per_side is {sides} by layer; keep at least one point'
                raise ValueError(msg)
            return [grid_of_points(side) for side in sides]
        try:
            grids = [np.asarray(grid, np.float64) for grid in self.point_grids or ()]
        except (TypeError, ValueError) as error:
            msg = (
                f'point_grids cannot be read as points ({error}); give points (P, 2) '
                f'for each layer'
            )
            raise ValueError(msg) from error
        shapes = [grid.shape for grid in grids]
        fit = all(len(s) == 2 and s[0] and s[1] == 2 for s in shapes)
        if len(grids) != num_layers or not fit:
            msg = (
                f'point_grids have shapes {shapes}; give points (P, 2) for each of '
                f'{num_layers} layers (the whole image, and crop_n_layers)'
            )
            raise ValueError(msg)
        least, most = -POINT_MARGIN, 1 + POINT_MARGIN
        if not all(((grid >= least) & (grid <= most)).all() for grid in grids):
            msg = 'point_grids have points outside of [0, 1]; give shares of the sides'
            raise ValueError(msg)
        return grids

    def _of_crop(
        self,
        image: NDArray[np.uint8],
        crop: Crop,
        grid: NDArray[np.float64],
        wanted: CandidateFilter,
    ) -> Candidates:
        """The masks of one crop."""
        found = find_candidates(
            self.model, image, crop, grid, wanted, counts=self._counts
        )
        kept = suppress_boxes(found.boxes, found.ious, threshold=self.box_nms_thresh)
        return found.select(kept)

    def _repaired(self, found: Candidates) -> Candidates:
        """Masks without small holes and parts; what then coincides is dropped."""
        if not len(found.encoded):
            return found
        masks = decode_masks(found.encoded)
        area = self.min_mask_region_area
        cleaned = np.stack([without_small_regions(mask, area) for mask in masks])
        unchanged = torch.from_numpy((cleaned == masks).all(axis=(1, 2)))
        boxes = masks_to_boxes(torch.from_numpy(cleaned)[:, None])
        repaired = found.with_masks(encode_masks(cleaned), boxes)
        limit = max(self.box_nms_thresh, self.crop_nms_thresh)
        # Masks that needed no repair are preferred.
        kept = suppress_boxes(boxes, unchanged.float(), threshold=limit)
        return repaired.select(kept)

    def _as_dicts(self, found: Candidates) -> Iterator[AutomaticMask]:
        """The masks under the names that users know."""
        for index, code in enumerate(found.encoded):
            crop = found.crops[index]
            yield AutomaticMask(
                segmentation=_in_mode(code, self.output_mode),
                area=count_encoded_pixels(code),
                bbox=_with_extent(found.boxes[index]),
                predicted_iou=float(found.ious[index]),
                point_coords=[found.points[index].tolist()],
                stability_score=float(found.stabilities[index]),
                crop_box=[crop.box[0], crop.box[1], crop.size[1], crop.size[0]],
            )


def _in_mode(code: EncodedMask, mode: str) -> Segmentation:
    """A mask in the form that was asked for."""
    if mode == 'binary_mask':
        mask: NDArray[np.bool_] = decode_masks([code])[0]
        return mask
    return code if mode == 'coco_rle' else plain_runs(code)


def _with_extent(box: Tensor) -> list[float]:
    """Corners as the first corner, width and height."""
    x, y, right, bottom = box.tolist()
    return [x, y, right - x, bottom - y]
