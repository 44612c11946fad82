"""Segments everything in an image: a grid of points, then the best of the masks.

Kirillov et al., 2023, section 4 and appendix B, as released with SAM 2.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Literal, TypedDict

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from typing_extensions import Self

from projects.sam2.apis.automatic_candidates import (
    CandidateCounts,
    CandidateFilter,
    Candidates,
    find_candidates,
)
from projects.sam2.apis.building import BuildOptions, Device, build_sam2, model_of
from projects.sam2.apis.image_predictor import SAM2ImagePredictor
from projects.sam2.apis.inputs import (
    POINT_MARGIN,
    ImageLike,
    read_flag,
    read_image,
    read_number,
    read_whole_number,
)
from projects.sam2.apis.pretrained import find_pretrained
from projects.sam2.models import SAM2
from projects.sam2.ops import (
    OVERLAP_RATIO,
    Crop,
    EncodedMask,
    PlainRuns,
    count_encoded_pixels,
    crops_of_image,
    decode_masks,
    encode_masks,
    grid_of_points,
    masks_to_boxes,
    plain_runs,
    suppress_boxes,
    without_small_regions,
)

__all__ = ['AutomaticMask', 'SAM2AutomaticMaskGenerator']

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
BUILD_NAMES = set(BuildOptions.__annotations__) - {'device'}


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
        **options: Any,  # noqa: ANN401  those of two functions
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
        build = {name: options.pop(name) for name in BUILD_NAMES if name in options}
        known = {field.name for field in fields(cls)} - {'model'}
        unknown = sorted(set(options) - known)
        if unknown:
            msg = (
                f'There is no option {unknown[0]!r}; there are '
                f'{", ".join(sorted(known | BUILD_NAMES))}'
            )
            raise TypeError(msg)
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
