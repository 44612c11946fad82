"""From the boxes of a detector to the masks of SAM 2."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ...apis.image_predictor import (
    LOW_RES_LIMIT,
    EncodedImage,
    SAM2ImagePredictor,
    decode_low_res,
    limit_logits,
    repair_masks,
)
from ...apis.inputs import read_points, read_whole_number
from ...models.tracking.promptable import PromptableModel
from ...ops import at_least_float32, upsample_logits

BOXES_PER_BATCH = 64  # decoded and enlarged to the size of the image at once


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxMasks:
    """Masks of the objects in N boxes of an image.

    A box that is empty or not finite has an empty mask, an IoU of 0, and the lowest
    logits that are fed back.

    Attributes:
        masks: (N, height, width), bool, at the size of the original image.
        ious: Estimated IoU of the masks, (N,), float32.
        low_res_logits: Logits that may be fed back as a prompt, (N, 1, H4, W4).
    """

    masks: Tensor
    ious: Tensor
    low_res_logits: Tensor


def clean_boxes(boxes: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Clamp boxes to an image, and find those that remain.

    Args:
        boxes: Corners ``(x0, y0, x1, y1)`` in pixels, (N, 4).
        size: Height and width of the image.

    Returns:
        The clamped boxes, (N, 4), float32, and whether each one is finite and not
        empty, (N,), bool. Boxes inside the image are unchanged, others that are not
        finite are 0.
    """
    height, width = size
    is_finite = boxes.isfinite().all(dim=1)
    corners = torch.where(is_finite[:, None], boxes.float(), 0.0)
    limits = corners.new_tensor([width, height, width, height])
    clamped = torch.minimum(corners.clamp(min=0), limits)
    is_box = is_finite & (clamped[:, 2:] > clamped[:, :2]).all(dim=1)
    return clamped, is_box


@torch.no_grad()
def decode_boxes(
    model: PromptableModel,
    image: EncodedImage,
    boxes: Tensor,
    *,
    boxes_per_batch: int = BOXES_PER_BATCH,
) -> tuple[Tensor, Tensor]:
    """Decode the mask of each box on an image that is encoded.

    Args:
        model: The model that encoded the image.
        image: Features of the image.
        boxes: Boxes that :func:`clean_boxes` finds finite and not empty, (N, 4), in
            pixels of the original image.
        boxes_per_batch: Boxes decoded at once.

    Returns:
        Mask logits (N, 1, H4, W4) and their estimated IoU (N,), float32.

    Raises:
        ValueError: If a box is inside out, not finite or outside the image.
    """
    logits = [boxes.new_empty(0, 1, *image.low_res_size, device=image.embedding.device)]
    ious = [logits[0].new_empty(0)]
    for start in range(0, len(boxes), boxes_per_batch):
        batch = boxes[start : start + boxes_per_batch]
        shares = read_points(points=None, labels=None, box=batch, size=image.size)
        points = (
            None if shares is None else model.data_preprocessor.point_prompt(shares)
        )
        batch_logits, batch_ious = decode_low_res(
            model, image, points, None, multimask=False
        )
        logits.append(batch_logits)
        ious.append(at_least_float32(batch_ious)[:, 0])
    return torch.cat(logits), torch.cat(ious)


@torch.no_grad()
def segment_boxes(
    predictor: SAM2ImagePredictor,
    boxes: Tensor,
    *,
    boxes_per_batch: int = BOXES_PER_BATCH,
) -> BoxMasks:
    """Segment the object in each box of the image that a predictor was given.

    Equal to ``predictor.predict(box=…, multimask_output=False)`` with
    ``boxes_per_batch`` boxes at a time, for boxes inside the image.

    Args:
        predictor: A predictor after ``set_image``; its threshold and its repair of
            small holes and specks are used.
        boxes: Corners ``(x0, y0, x1, y1)`` in pixels of the image, (N, 4). Boxes that
            reach beyond the image are clamped.
        boxes_per_batch: Boxes decoded at once: more need more memory.

    Returns:
        Masks of all boxes, on the device of the model.

    Raises:
        RuntimeError: If the predictor has no image.
        ValueError: If the boxes have another shape, or a batch has none.
    """
    read_whole_number(boxes_per_batch, name='boxes_per_batch', least=1)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        msg = f'boxes have the shape {tuple(boxes.shape)}; give (N, 4)'
        raise ValueError(msg)
    image = predictor.image(0)
    clamped, is_box = clean_boxes(boxes.detach(), image.size)
    rows = is_box.nonzero()[:, 0]
    logits, ious = decode_boxes(
        predictor.model, image, clamped[rows], boxes_per_batch=boxes_per_batch
    )
    device = logits.device
    result = BoxMasks(
        masks=torch.zeros(len(boxes), *image.size, dtype=torch.bool, device=device),
        ious=torch.zeros(len(boxes), device=device),
        low_res_logits=logits.new_full((len(boxes), *logits.shape[1:]), -LOW_RES_LIMIT),
    )
    rows = rows.to(device)
    result.ious[rows] = ious
    result.low_res_logits[rows] = limit_logits(logits)
    for start in range(0, len(rows), boxes_per_batch):
        batch = slice(start, start + boxes_per_batch)
        repaired = repair_masks(
            logits[batch],
            threshold=predictor.mask_threshold,
            max_hole_area=predictor.max_hole_area,
            max_speck_area=predictor.max_sprinkle_area,
        )
        enlarged = upsample_logits(repaired, image.size)  # (N, 1, height, width)
        result.masks[rows[batch]] = enlarged[:, 0] > predictor.mask_threshold
    return result
