"""Segments everything in an image: masks from a grid of points, without duplicates.

::

    generate                      for each crop of the image:
    └─ _segment_crop
        ├─ encode_images
        ├─ _decode                masks at the points, filtered by estimated IoU
        ├─ _keep_stable           enlarged in chunks, filtered by stability, encoded
        └─ _without_duplicates    non-maximum suppression, at the end between crops too
"""

import inspect
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypedDict

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from typing_extensions import Self

from ..models import SAM2
from ..models.tracking.promptable import PromptableModel
from ..ops import (
    OVERLAP_RATIO,
    Crop,
    EncodedMask,
    PlainRuns,
    count_encoded_pixels,
    crops_of_image,
    decode_masks,
    encode_masks,
    grid_of_points,
    mask_stability,
    masks_to_boxes,
    plain_runs,
    send_to_device,
    suppress_boxes,
    upsample_logits,
    without_small_regions,
)
from ..structures import PointLabel, PointPrompt
from .building import Device, build_sam2, find_pretrained, model_of
from .image_predictor import (
    EncodedImage,
    SAM2ImagePredictor,
    decode_low_res,
    encode_images,
    limit_logits,
    repair_masks,
)
from .inputs import (
    POINT_MARGIN,
    ImageLike,
    read_choice,
    read_flag,
    read_image,
    read_number,
    read_whole_number,
    setting,
)

EDGE_TOLERANCE = 20.0  # pixels between a box and the edge of a crop that cuts it
MASKS_PER_CHUNK = 16  # enlarged to the size of the crop at a time
OUTPUT_MODES = ('binary_mask', 'uncompressed_rle', 'coco_rle')
Segmentation = NDArray[np.bool_] | EncodedMask | PlainRuns


class AutomaticMask(TypedDict):
    """A mask of :meth:`SAM2AutomaticMaskGenerator.generate`, with the released keys.

    Example:
        >>> import numpy as np
        >>> from projects.sam2.apis import SAM2AutomaticMaskGenerator, build_sam2
        >>> model = build_sam2('_base_/models/sam2_1_mini.py', device='cpu')
        >>> generator = SAM2AutomaticMaskGenerator(model, points_per_side=4)
        >>> masks = generator.generate(np.zeros((96, 128, 3), np.uint8))
        >>> large = [mask['segmentation'] for mask in masks if mask['area'] > 1000]

    Attributes:
        segmentation: (height, width), bool; or run lengths, see ``output_mode``.
        area: Pixels of the mask.
        bbox: ``[x, y, width, height]`` of the mask.
        predicted_iou: The model's estimate of the mask's IoU.
        point_coords: The point that led to the mask, ``[[x, y]]``.
        stability_score: How little the mask changes with its threshold.
        crop_box: ``[x, y, width, height]`` of the crop that it was decoded in.
    """

    segmentation: Segmentation
    area: int
    bbox: list[float]
    predicted_iou: float
    point_coords: list[list[float]]
    stability_score: float
    crop_box: list[int]


def _read_points_per_side(value: object, *, name: str) -> int | None:
    return None if value is None else read_whole_number(value, name=name, least=1)


@dataclass(eq=False)
class SAM2AutomaticMaskGenerator:
    """Segments everything in an image.

    Settings may be changed between images: ``generator.pred_iou_thresh = 0.6``.

    Example:
        >>> import numpy as np
        >>> from projects.sam2.apis import SAM2AutomaticMaskGenerator, build_sam2
        >>> model = build_sam2('_base_/models/sam2_1_mini.py', device='cpu')
        >>> generator = SAM2AutomaticMaskGenerator(
        ...     model, points_per_side=4, pred_iou_thresh=0.9
        ... )
        >>> masks = generator.generate(np.zeros((96, 128, 3), np.uint8))
        >>> all(mask['predicted_iou'] > 0.9 for mask in masks)
        True

    Attributes:
        model: A model as :func:`build_sam2` returns it, or a predictor, whose model is
            then shared.
        points_per_side: Points along each side of the image; None if ``point_grids``
            is given.
        points_per_batch: Points decoded at once.
        pred_iou_thresh: Remove masks whose estimated IoU does not exceed it.
        stability_score_thresh: Remove masks whose stability is below it.
        stability_score_offset: Shift of the threshold by which stability is measured.
        mask_threshold: Logits above it belong to a mask.
        box_nms_thresh: Largest IoU of the boxes of two masks that are both kept.
        crop_n_layers: Number of layers of crops, finer in each layer.
        crop_nms_thresh: As ``box_nms_thresh``, between masks of different crops.
        crop_overlap_ratio: Overlap of neighbouring crops over the image's short side.
        crop_n_points_downscale_factor: Points along a side are divided by it in each
            layer.
        point_grids: Instead of ``points_per_side``: for each layer, points as shares
            of the sides, (P, 2); they may lie 0.05 beyond the border.
        min_mask_region_area: Fill holes and remove parts of fewer pixels.
        output_mode: Type of ``segmentation``: ``'binary_mask'``,
            ``'uncompressed_rle'`` or ``'coco_rle'``.
        use_m2m: Feed each mask back to the model once, to refine it.
        multimask_output: Decode three masks at each point, not one.

    Raises:
        ValueError: If a setting has a wrong type or is out of range, a layer is left
            without points, or the grids do not fit the layers.
    """

    model: SAM2
    points_per_side: int | None = setting(_read_points_per_side, 32)
    points_per_batch: int = setting(read_whole_number, 64, least=1)
    pred_iou_thresh: float = setting(read_number, 0.8, most=1.0)
    stability_score_thresh: float = setting(read_number, 0.95, most=1.0)
    stability_score_offset: float = setting(read_number, 1.0, least=0.0)
    mask_threshold: float = setting(read_number, 0.0)
    box_nms_thresh: float = setting(read_number, 0.7, least=0.0, most=1.0)
    crop_n_layers: int = setting(read_whole_number, 0, least=0)
    crop_nms_thresh: float = setting(read_number, 0.7, least=0.0, most=1.0)
    crop_overlap_ratio: float = setting(read_number, OVERLAP_RATIO, least=0.0, most=1.0)
    crop_n_points_downscale_factor: int = setting(read_whole_number, 1, least=1)
    point_grids: Sequence[ArrayLike] | None = None
    min_mask_region_area: float = setting(read_number, 0.0, least=0.0)
    output_mode: Literal['binary_mask', 'uncompressed_rle', 'coco_rle'] = setting(
        read_choice, 'binary_mask', choices=OUTPUT_MODES
    )
    use_m2m: bool = setting(read_flag, False)
    multimask_output: bool = setting(read_flag, True)

    def __post_init__(self) -> None:
        """Check that the points fit the layers."""
        self._grids()
        self._counts = _Counts()

    def __setattr__(self, name: str, value: object) -> None:
        """Unwrap the model, and give the image predictor the same one."""
        if name == 'model':
            value = model_of(value)
            self.predictor = SAM2ImagePredictor(value)
        super().__setattr__(name, value)

    @classmethod
    def from_pretrained(
        cls,
        model_id: str,
        *,
        device: Device | None = None,
        **options: Any,
    ) -> Self:
        """Build a generator by its model's id on Hugging Face.

        Args:
            model_id: As for :func:`find_pretrained`.
            device: Device of the model; by default ``'cuda'`` if there is one.
            options: Other options of :func:`build_sam2`, and attributes of the
                generator.

        Raises:
            OSError: If there is no such model, or it cannot be fetched.
        """
        names = set(inspect.signature(build_sam2).parameters) & set(options)
        build = {name: options.pop(name) for name in names}
        model = build_sam2(*find_pretrained(model_id), device=device, **build)
        return cls(model, **options)

    @torch.no_grad()
    def generate(self, image: ImageLike) -> list[AutomaticMask]:
        """Segment everything in an image.

        Args:
            image: (height, width, 3), uint8, RGB; or a PIL image of mode RGB.

        Returns:
            The masks, the most certain of the whole image first.

        Raises:
            ValueError: If the image is not RGB or not of 8 bits.
            TypeError: If it is not an image.
        """
        pixels = read_image(image, name='The image')
        size = (pixels.shape[0], pixels.shape[1])
        grids = self._grids()
        crops = crops_of_image(
            size, self.crop_n_layers, overlap_ratio=self.crop_overlap_ratio
        )
        self._counts = _Counts()
        masks = [
            mask
            for crop in crops
            for mask in self._segment_crop(pixels, crop, grids[crop.layer])
        ]
        if len(crops) > 1:
            # Prefer small crops: they show more detail.
            detail = [1 / math.prod(mask.crop.size) for mask in masks]
            masks = _without_duplicates(masks, detail, self.crop_nms_thresh)
        if self.min_mask_region_area > 0 and masks:
            masks = self._without_small_regions(masks)
        return [
            AutomaticMask(
                segmentation=self._segmentation(mask.encoded),
                area=count_encoded_pixels(mask.encoded),
                bbox=_to_xywh(mask.box),
                predicted_iou=mask.iou,
                point_coords=[mask.point],
                stability_score=mask.stability,
                crop_box=_to_xywh(mask.crop.box),
            )
            for mask in masks
        ]

    def explain_nothing(self) -> str:
        """Explain why no mask of the last image was kept, and which setting to change.

        Returns:
            A reason such as "0 masks of 3072 candidates: the best predicted IoU, 0.31,
            does not exceed pred_iou_thresh 0.8; lower it".
        """
        counts = self._counts
        nothing = f'0 masks of {counts.num_decoded} candidates'
        if counts.num_decoded and counts.best_iou == -math.inf:
            return f'{nothing}: the model predicts NaN; check its weights'
        if not counts.num_promising:
            return (
                f'{nothing}: the best predicted IoU, {counts.best_iou:.4g}, does not '
                f'exceed pred_iou_thresh {self.pred_iou_thresh:g}; lower it'
            )
        if not counts.num_stable:
            return (
                f'{nothing}: {counts.num_promising} exceed pred_iou_thresh '
                f'{self.pred_iou_thresh:g}, but the best stability score, '
                f'{max(counts.best_stability, 0):.4g}, is below '
                f'stability_score_thresh {self.stability_score_thresh:g}; lower it'
            )
        return (
            f'{nothing}: the edges of crops cut all {counts.num_stable} stable masks; '
            f'raise crop_overlap_ratio'
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

    def _segment_crop(
        self, image: NDArray[np.uint8], crop: Crop, grid: NDArray[np.float64]
    ) -> list['_Mask']:
        """Decode the points of a crop, (P, 2) shares of its sides; keep good masks."""
        left, top, right, bottom = crop.box
        embedding, high_res = encode_images(self.model, [image[top:bottom, left:right]])
        encoded = EncodedImage(embedding=embedding, high_res=high_res, size=crop.size)
        area = self.min_mask_region_area
        masks: list[_Mask] = []
        for shares in torch.from_numpy(grid).float().split(self.points_per_batch):
            logits, ious, points = self._decode(encoded, shares)
            columns = (x.split(MASKS_PER_CHUNK) for x in (logits, ious, points))
            for chunk, chunk_ious, chunk_points in zip(*columns, strict=True):
                repaired = repair_masks(chunk, max_hole_area=area, max_speck_area=area)
                enlarged = upsample_logits(repaired, crop.size)[:, 0]  # (N, h, w)
                masks += self._keep_stable(
                    enlarged, chunk_ious, chunk_points, crop, image.shape[:2]
                )
        return _without_duplicates(
            masks, [mask.iou for mask in masks], self.box_nms_thresh
        )

    def _decode(
        self, image: EncodedImage, shares: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Decode masks at points, (P, 2), and keep those of a high estimated IoU.

        Returns:
            Logits (N, 1, H4, W4), estimated IoU (N,), and the points (N, 2).
        """
        model = self.model
        logits, ious = decode_low_res(
            model,
            image,
            _single_points(model, shares),
            None,
            multimask=self.multimask_output,
        )
        shares = shares.repeat_interleave(ious.shape[1], dim=0)
        # (P, M, H4, W4) and (P, M) -> (P * M, 1, H4, W4) and (P * M,)
        logits, ious = logits.flatten(0, 1)[:, None], ious.flatten()
        if self.use_m2m:
            size = self.points_per_batch
            pairs = zip(
                shares.split(size), limit_logits(logits).split(size), strict=True
            )
            refined = [
                decode_low_res(
                    model,
                    image,
                    _single_points(model, chunk),
                    previous,
                    multimask=False,
                )
                for chunk, previous in pairs
            ]
            logits = torch.cat([masks for masks, _ in refined])
            ious = torch.cat([iou for _, iou in refined])[:, 0]
        ious = ious.float().cpu()
        promising = torch.nonzero(ious > self.pred_iou_thresh)[:, 0]
        self._counts.num_decoded += len(ious)
        self._counts.best_iou = max(self._counts.best_iou, _largest(ious))
        self._counts.num_promising += len(promising)
        kept = logits[send_to_device(promising, logits.device)]
        return kept, ious[promising], shares[promising]

    def _keep_stable(
        self,
        logits: Tensor,
        ious: Tensor,
        shares: Tensor,
        crop: Crop,
        size: tuple[int, ...],
    ) -> list['_Mask']:
        """Keep the stable masks, (N, h, w), of a crop that its edge does not cut."""
        threshold = self.mask_threshold
        stabilities = mask_stability(
            logits, threshold=threshold, offset=self.stability_score_offset
        ).cpu()  # NaN for an empty mask, which is not stable
        stable = torch.nonzero(stabilities >= self.stability_score_thresh)[:, 0]
        self._counts.best_stability = max(
            self._counts.best_stability, _largest(stabilities)
        )
        self._counts.num_stable += len(stable)
        binary = logits[send_to_device(stable, logits.device)] > threshold
        left, top, right, bottom = crop.box
        boxes = _zero_if_empty(masks_to_boxes(binary[:, None]).cpu())
        boxes = boxes + torch.tensor([left, top, left, top], dtype=boxes.dtype)
        whole = ~_is_cut(boxes, crop, size)
        kept = stable[whole]
        in_image = np.zeros((len(kept), *size[:2]), dtype=bool)
        in_image[:, top:bottom, left:right] = binary.cpu()[whole].numpy()
        extent = torch.tensor([crop.size[1], crop.size[0]], dtype=torch.float32)
        origin = torch.tensor([left, top], dtype=torch.float32)
        columns = (
            encode_masks(in_image) if len(kept) else [],
            boxes[whole].tolist(),
            ious[kept].tolist(),
            stabilities[kept].tolist(),
            (shares[kept] * extent + origin).tolist(),
        )
        return [_Mask(*row, crop) for row in zip(*columns, strict=True)]

    def _without_small_regions(self, masks: list['_Mask']) -> list['_Mask']:
        """Remove small holes and parts, then masks that have become duplicates."""
        original = decode_masks([mask.encoded for mask in masks])
        area = self.min_mask_region_area
        cleaned = np.stack([without_small_regions(mask, area) for mask in original])
        unchanged = (cleaned == original).all(axis=(1, 2))
        boxes = _zero_if_empty(masks_to_boxes(torch.from_numpy(cleaned)[:, None]))
        masks = [
            replace(mask, encoded=code, box=box)
            for mask, code, box in zip(
                masks, encode_masks(cleaned), boxes.tolist(), strict=True
            )
        ]
        # Prefer masks that did not change.
        threshold = max(self.box_nms_thresh, self.crop_nms_thresh)
        return _without_duplicates(masks, unchanged.tolist(), threshold)

    def _segmentation(self, code: EncodedMask) -> Segmentation:
        if self.output_mode == 'binary_mask':
            mask: NDArray[np.bool_] = decode_masks([code])[0]
            return mask
        return code if self.output_mode == 'coco_rle' else plain_runs(code)


@dataclass(slots=True)
class _Counts:
    """How many masks of an image passed each filter, to explain an empty result."""

    num_decoded: int = 0
    best_iou: float = -math.inf
    num_promising: int = 0  # estimated IoU exceeds the threshold
    best_stability: float = -math.inf
    num_stable: int = 0


@dataclass(frozen=True, slots=True)
class _Mask:
    """A mask of an image with its scores."""

    encoded: EncodedMask  # at the size of the image
    box: list[float]  # first and last pixel, (x, y, x, y); zeros for an empty mask
    iou: float  # estimated
    stability: float
    point: list[float]  # that led to it, in pixels of the image
    crop: Crop


def _without_duplicates(
    masks: list[_Mask], priorities: Sequence[float], threshold: float
) -> list[_Mask]:
    """Apply non-maximum suppression; a higher priority wins."""
    boxes = torch.tensor([mask.box for mask in masks]).view(-1, 4)
    scores = torch.tensor(priorities, dtype=torch.float32)
    kept = suppress_boxes(boxes, scores, threshold=threshold)
    return [masks[index] for index in kept.tolist()]


def _single_points(model: PromptableModel, shares: Tensor) -> PointPrompt:
    """Prompt with points, (P, 2) shares of the sides, each for a separate object."""
    labels = torch.full((len(shares), 1), PointLabel.POSITIVE, dtype=torch.int32)
    points = PointPrompt(coords=shares[:, None], labels=labels)  # (P, 1, 2), (P, 1)
    return model.data_preprocessor.point_prompt(points)


def _largest(values: Tensor) -> float:
    """The largest of values, (N,), that is not NaN; -inf if there is none."""
    numbers = values[~values.isnan()]
    return float(numbers.max()) if len(numbers) else -math.inf


def _is_cut(boxes: Tensor, crop: Crop, size: tuple[int, ...]) -> Tensor:
    """Whether boxes, (O, 4), touch an edge of the crop inside the image, (O,)."""
    edges = torch.tensor(crop.box, dtype=boxes.dtype)
    image_edges = torch.tensor([0, 0, size[1], size[0]], dtype=boxes.dtype)
    near_crop = (boxes - edges).abs() <= EDGE_TOLERANCE
    near_image = (boxes - image_edges).abs() <= EDGE_TOLERANCE
    return (near_crop & ~near_image).any(dim=1)


def _zero_if_empty(boxes: Tensor) -> Tensor:
    """Replace the boxes of empty masks, (O, 4), by zeros."""
    empty = (boxes[:, 2:] < boxes[:, :2]).any(dim=1, keepdim=True)
    return torch.where(empty, 0.0, boxes)


def _to_xywh(box: Sequence[Any]) -> list[Any]:
    """Convert corners to the first corner, width and height."""
    left, top, right, bottom = box
    return [left, top, right - left, bottom - top]
