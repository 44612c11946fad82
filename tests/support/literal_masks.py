"""The automatic mask generator, written as its description reads: slow and plain."""

from dataclasses import dataclass
from itertools import product
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from projects.sam2.apis import SAM2ImagePredictor
from projects.sam2.models import SAM2
from projects.sam2.ops import Crop, crops_of_image

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Settings:
    """As the arguments of the generator."""

    per_side: int
    min_iou: float
    min_stability: float
    offset: float
    nms: float
    layers: int = 0
    downscale: int = 1
    min_area: float = 0.0
    threshold: float = 0.0
    refines: bool = False
    multimask: bool = True
    overlap: float = 512 / 1500
    crop_nms: float = 0.7


def box_of(mask: Mask) -> list[int]:
    """First and last pixel of a mask; zeros for an empty mask."""
    rows, columns = np.nonzero(mask)
    if not len(rows):
        return [0, 0, 0, 0]
    return [columns.min(), rows.min(), columns.max(), rows.max()]


def box_iou(first: list[int], second: list[int]) -> float:
    """IoU of two boxes, measured between their corners."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    overlap = max(width, 0) * max(height, 0)
    areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (first, second)]
    union = sum(areas) - overlap
    return overlap / union if union else 0.0


def nms(entries: list[dict[str, Any]], scores: list[float], limit: float) -> list[Any]:
    """Keep the best of entries whose boxes overlap."""
    kept: list[dict[str, Any]] = []
    for index in sorted(range(len(entries)), key=lambda i: -scores[i]):
        if all(box_iou(entries[index]['box'], k['box']) <= limit for k in kept):
            kept.append(entries[index])
    return kept


def cleaned(mask: Mask, min_area: float) -> Mask:
    """A mask without small holes, then without small islands."""
    for holes in (True, False):
        number, labels, stats, _ = cv2.connectedComponentsWithStats(
            (mask ^ holes).astype(np.uint8), connectivity=8
        )
        sizes = stats[1:, -1]
        small = [i + 1 for i, size in enumerate(sizes) if size < min_area]
        if not small:
            continue
        wanted = (
            [0, *small] if holes else [i for i in range(1, number) if i not in small]
        )
        mask = np.isin(labels, wanted or [int(np.argmax(sizes)) + 1])
    return mask


def literal_masks(
    model: SAM2, image: NDArray[np.uint8], how: Settings
) -> list[dict[str, Any]]:
    """All masks of an image: ``mask``, ``box``, ``iou``, ``stability``, ``point``."""
    predictor = SAM2ImagePredictor(
        model, max_hole_area=how.min_area, max_sprinkle_area=how.min_area
    )
    masks: list[dict[str, Any]] = []
    size = (image.shape[0], image.shape[1])
    for crop in crops_of_image(size, how.layers, overlap_ratio=how.overlap):
        entries = masks_of_crop(predictor, image, crop, how)
        masks += nms(entries, [entry['iou'] for entry in entries], how.nms)
    if how.layers:
        areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (e['crop'] for e in masks)]
        masks = nms(masks, [1 / area for area in areas], how.crop_nms)
    if how.min_area > 0:
        repaired, same = [], []
        for entry in masks:
            mask = cleaned(entry['mask'], how.min_area)
            same.append(float(np.array_equal(mask, entry['mask'])))
            repaired.append(entry | {'mask': mask, 'box': box_of(mask)})
        masks = nms(repaired, same, max(how.nms, how.crop_nms))
    return masks


def masks_of_crop(
    predictor: SAM2ImagePredictor, image: NDArray[np.uint8], crop: Crop, how: Settings
) -> list[dict[str, Any]]:
    """The masks of one crop, before duplicates are removed."""
    left, top, right, bottom = crop.box
    predictor.set_image(image[top:bottom, left:right])
    side = int(how.per_side / how.downscale**crop.layer)
    entries = []
    for row, column in product(range(side), repeat=2):
        x = (column + 0.5) / side * (right - left)
        y = (row + 0.5) / side * (bottom - top)
        for mask, iou in masks_at(predictor, (x, y), how):
            entry = judged(mask, crop.box, image.shape[:2], how)
            if iou > how.min_iou and entry is not None:
                point = [x + left, y + top]
                entries.append(entry | {'iou': iou, 'point': point, 'crop': crop.box})
    return entries


def masks_at(
    predictor: SAM2ImagePredictor, point: tuple[float, float], how: Settings
) -> list[tuple[NDArray[np.float32], float]]:
    """Logits at a point, with their IoU; each fed back once, if so."""
    prompt: dict[str, Any] = {
        'point_coords': [point],
        'point_labels': [1],
        'return_logits': True,
    }
    logits, ious, low_res = predictor.predict(**prompt, multimask_output=how.multimask)
    if not how.refines:
        return list(zip(logits, ious, strict=True))
    prompt['multimask_output'] = False
    refined = [
        predictor.predict(**prompt, mask_input=logits_[None]) for logits_ in low_res
    ]
    return [(answer[0][0], answer[1][0]) for answer in refined]


def judged(
    logits: NDArray[np.float32],
    crop: tuple[int, int, int, int],
    size: tuple[int, ...],
    how: Settings,
) -> dict[str, Any] | None:
    """The mask at the size of the image; None if it is unstable or cut by the crop."""
    outer = (logits > how.threshold - how.offset).sum()
    inner = (logits > how.threshold + how.offset).sum()
    if not outer or inner / outer < how.min_stability:
        return None
    left, top, right, bottom = crop
    mask = np.zeros(size, dtype=bool)
    mask[top:bottom, left:right] = logits > how.threshold
    box = box_of(logits > how.threshold)
    box = [box[0] + left, box[1] + top, box[2] + left, box[3] + top]
    image_edges = (0, 0, size[1], size[0])
    for side, edge, image_edge in zip(box, crop, image_edges, strict=True):
        if abs(side - edge) <= 20 < abs(side - image_edge):
            return None
    return {'mask': mask, 'box': box, 'stability': inner / outer}
