"""Segments everything in an image: a grid of points, then the best of the masks.

Kirillov et al., 2023, section 4 and appendix B, as released with SAM 2.
"""

from collections.abc import Iterator
from typing import TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from projects.sam2.apis.automatic_candidates import (
    CandidateFilter,
    Candidates,
    find_candidates,
)
from projects.sam2.apis.inputs import ImageLike, read_image
from projects.sam2.models import SAM2
from projects.sam2.ops import (
    Crop,
    crops_of_image,
    decode_masks,
    encode_masks,
    grid_of_points,
    masks_to_boxes,
    suppress_boxes,
    without_small_regions,
)

__all__ = ['AutomaticMask', 'SAM2AutomaticMaskGenerator']

CROP_NMS_THRESHOLD = 0.7  # between masks of different crops


class AutomaticMask(TypedDict):
    """One mask, under the names that users of SAM 2 know.

    Attributes:
        segmentation: (height, width), bool.
        area: Pixels of the mask.
        bbox: ``[x, y, width, height]`` of the mask.
        predicted_iou: The model's own estimate.
        point_coords: The point that led to the mask, ``[[x, y]]``.
        stability_score: How little the mask changes with its threshold.
        crop_box: ``[x, y, width, height]`` of the crop it was found in.
    """

    segmentation: NDArray[np.bool_]
    area: int
    bbox: list[float]
    predicted_iou: float
    point_coords: list[list[float]]
    stability_score: float
    crop_box: list[int]


class SAM2AutomaticMaskGenerator:
    """Finds the masks of all that is in an image.

    Args:
        model: As :func:`build_sam2` gives it.
        points_per_side: Points along a side of the image; squared for all of it.
        points_per_batch: Points decoded at once.
        pred_iou_thresh: Masks that the model expects less of are dropped.
        stability_score_thresh: Masks less stable are dropped.
        stability_score_offset: How far the threshold moves for the stability.
        box_nms_thresh: Largest IoU of the boxes of two masks that both stay.
        crop_n_layers: Look at crops as well, finer in each layer.
        crop_n_points_downscale_factor: Points along a side are divided by it in each
            layer.
        min_mask_region_area: Close holes and drop parts of fewer pixels.

    Raises:
        ValueError: If no point is left in a layer, or in a batch.
    """

    def __init__(
        self,
        model: SAM2,
        points_per_side: int = 32,
        *,
        points_per_batch: int = 64,
        pred_iou_thresh: float = 0.8,
        stability_score_thresh: float = 0.95,
        stability_score_offset: float = 1.0,
        box_nms_thresh: float = 0.7,
        crop_n_layers: int = 0,
        crop_n_points_downscale_factor: int = 1,
        min_mask_region_area: float = 0.0,
    ) -> None:
        per_side = [
            points_per_side // crop_n_points_downscale_factor**layer
            for layer in range(crop_n_layers + 1)
        ]
        if min(*per_side, points_per_batch) < 1:
            msg = (
                f'points_per_side is {per_side} by layer and points_per_batch '
                f'{points_per_batch}; keep at least one point in each'
            )
            raise ValueError(msg)
        self.model = model
        self.grids = [grid_of_points(number) for number in per_side]
        self.filter = CandidateFilter(
            points_per_batch=points_per_batch,
            min_iou=pred_iou_thresh,
            min_stability=stability_score_thresh,
            stability_offset=stability_score_offset,
            repaired_area=min_mask_region_area,
        )
        self.box_nms_thresh = box_nms_thresh

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
        crops = crops_of_image(size, len(self.grids) - 1)
        found = Candidates.joined([self._of_crop(pixels, crop) for crop in crops])
        if len(crops) > 1:
            # What was found in a small crop shows more detail.
            detail = 1 / torch.tensor([float(np.prod(c.size)) for c in found.crops])
            kept = suppress_boxes(found.boxes, detail, threshold=CROP_NMS_THRESHOLD)
            found = found.select(kept)
        if self.filter.repaired_area > 0:
            found = self._repaired(found)
        return list(_as_dicts(found))

    def _of_crop(self, image: NDArray[np.uint8], crop: Crop) -> Candidates:
        """The masks of one crop."""
        found = find_candidates(
            self.model, image, crop, self.grids[crop.layer], self.filter
        )
        kept = suppress_boxes(found.boxes, found.ious, threshold=self.box_nms_thresh)
        return found.select(kept)

    def _repaired(self, found: Candidates) -> Candidates:
        """Masks without small holes and parts; what then coincides is dropped."""
        if not len(found.encoded):
            return found
        masks = decode_masks(found.encoded)
        area = self.filter.repaired_area
        cleaned = np.stack([without_small_regions(mask, area) for mask in masks])
        unchanged = torch.from_numpy((cleaned == masks).all(axis=(1, 2)))
        boxes = masks_to_boxes(torch.from_numpy(cleaned)[:, None])
        repaired = found.with_masks(encode_masks(cleaned), boxes)
        limit = max(self.box_nms_thresh, CROP_NMS_THRESHOLD)
        # Masks that needed no repair are preferred.
        kept = suppress_boxes(boxes, unchanged.float(), threshold=limit)
        return repaired.select(kept)


def _as_dicts(found: Candidates) -> Iterator[AutomaticMask]:
    """The masks under the names that users know."""
    for index, code in enumerate(found.encoded):
        mask = decode_masks([code])[0]
        crop = found.crops[index]
        yield AutomaticMask(
            segmentation=mask,
            area=int(mask.sum()),
            bbox=_with_extent(found.boxes[index]),
            predicted_iou=float(found.ious[index]),
            point_coords=[found.points[index].tolist()],
            stability_score=float(found.stabilities[index]),
            crop_box=[crop.box[0], crop.box[1], crop.size[1], crop.size[0]],
        )


def _with_extent(box: Tensor) -> list[float]:
    """Corners as the first corner, width and height."""
    x, y, right, bottom = box.tolist()
    return [x, y, right - x, bottom - y]
