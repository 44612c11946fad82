"""Non-maximum suppression and the overlap of boxes."""

import numpy as np
import torch
from torch import Tensor

from .sampling import computable, operator

# Boxes that are compared with all others at once: few enough for a CPU's cache; many on
# a GPU, which each block synchronizes with.
BLOCK_ON_CPU, BLOCK_ON_GPU = 128, 2048


@operator
def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Drop each box that overlaps a better one.

    Args:
        boxes: (N, 4), corners ``(x0, y0, x1, y1)``.
        scores: (N,).
        iou_threshold: Largest IoU of two boxes that are both kept.
        offset: 1 if the second corner belongs to the box, 0 if not.

    Returns:
        Indices of the boxes that are kept, best first, int64.
    """
    # The sort of the compiled operator, for the same order of equal scores.
    order = scores.sort(0, descending=True).indices
    ordered = computable(boxes)[order]
    kept = torch.ones(len(order), dtype=torch.bool, device=boxes.device)
    size = BLOCK_ON_CPU if boxes.device.type == 'cpu' else BLOCK_ON_GPU
    for start in range(0, len(order), size):
        block = slice(start, start + size)
        overlaps = _overlap(ordered[block], ordered[block], iou_threshold, offset)
        kept[block] = _keep_best(overlaps.triu(diagonal=1), kept[block])
        rest = slice(start + size, None)
        best = ordered[block][kept[block]]
        kept[rest] &= ~_overlap(best, ordered[rest], iou_threshold, offset).any(dim=0)
    return order[kept]


def _overlap(
    boxes: Tensor, others: Tensor, iou_threshold: float, offset: int
) -> Tensor:
    """Tell which boxes overlap by more than the threshold: (N, M), bool."""
    ious = _ious(boxes[:, None], others, offset)
    return ious > torch.tensor(iou_threshold, dtype=ious.dtype)


def _ious(boxes: Tensor, others: Tensor, offset: int) -> Tensor:
    """IoU of boxes that are broadcast, in the compiled operator's order of steps."""
    x0, y0, x1, y1 = boxes.unbind(dim=-1)
    left, top, right, bottom = others.unbind(dim=-1)
    # In place, since memory takes most of the time on a CPU.
    overlap = x1.minimum(right).sub_(x0.maximum(left)).add_(offset).clamp_(min=0)
    overlap *= y1.minimum(bottom).sub_(y0.maximum(top)).add_(offset).clamp_(min=0)
    area = (x1 - x0 + offset) * (y1 - y0 + offset)
    other_area = (right - left + offset) * (bottom - top + offset)
    return overlap.div_((area + other_area).sub_(overlap))


def _keep_best(suppresses: Tensor, alive: Tensor) -> Tensor:
    """Find the boxes that no kept box before them suppresses.

    Args:
        suppresses: (N, N), strictly upper triangular: the row's box drops the column's.
        alive: (N,), false for boxes that are dropped already.
    """
    # After n rounds the answer is right for each box that at most n suppressions in a
    # row lead to. Few rounds do, and each is one step on a GPU.
    kept = alive
    while True:
        after = alive & ~(suppresses & kept[:, None]).any(dim=0)
        if after.equal(kept):
            return kept
        kept = after


@operator
def softnms(
    boxes: Tensor,
    scores: Tensor,
    dets: Tensor,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: int,
    offset: int,
) -> Tensor:
    """Lower the score of each box that overlaps a better one.

    Args:
        boxes: (N, 4), on a CPU.
        scores: (N,).
        dets: (N, 5), gets the boxes and their new scores, best first.
        iou_threshold: IoU from which scores are lowered, unless by method 2.
        sigma: Width of the Gaussian of method 2.
        min_score: Boxes with a lower score are dropped.
        method: 0 drops, 1 lowers by the IoU, 2 by a Gaussian of the IoU.
        offset: 1 if the second corner belongs to the box, 0 if not.

    Returns:
        Indices of the boxes that are kept, best first, int64.
    """
    # Float32 throughout, since scores that are nearly equal decide about the order.
    corner = computable(boxes).float()
    sides = corner[:, 2:] - corner[:, :2] + offset
    columns = [corner, sides.prod(dim=1, keepdim=True), scores[:, None].to(corner)]
    table = torch.cat(columns, dim=1).T.numpy().copy()  # (6, N), in order of position
    score, indices = table[5], np.arange(len(boxes))
    threshold, width, least = np.array([iou_threshold, sigma, min_score], np.float32)
    front, end = 0, len(boxes)
    while front < end:
        # The best box goes to the front and the box there takes its place, as in the
        # compiled operator: that decides which of two equal scores comes first. The
        # score of a box without an area may be NaN, which is never the best.
        best = front + int(score[front:end].argmax())
        if np.isnan(score[best]) and not np.isnan(score[front]):
            best = front + int(np.nanargmax(score[front:end]))
        table[:, [front, best]] = table[:, [best, front]]
        indices[[front, best]] = indices[[best, front]]
        box, rest = table[:, front, None], table[:, front + 1 : end]
        front += 1
        size = np.minimum(box[2:4], rest[2:4]) - np.maximum(box[:2], rest[:2])
        size = np.maximum(size + np.float32(offset), 0)
        overlap = size[0] * size[1]
        with np.errstate(invalid='ignore', divide='ignore'):
            ious = overlap / (box[4] + rest[4] - overlap)
        if method == 2:
            rest[5] *= np.exp(-(ious * ious) / width)
        else:
            over = ious >= threshold
            rest[5, over] *= 1 - ious[over] if method == 1 else 0
        if (dropped := rest[5] < least).any():
            # Boxes from the end fill the gaps of dropped ones.
            num_kept = len(dropped) - int(dropped.sum())
            gaps = front + np.flatnonzero(dropped[:num_kept])
            fillers = front + num_kept + np.flatnonzero(~dropped[num_kept:])[::-1]
            table[:, gaps], indices[gaps] = table[:, fillers], indices[fillers]
            end = front + num_kept
    dets[:end] = torch.from_numpy(table[[0, 1, 2, 3, 5], :end].T).to(dets)
    return torch.from_numpy(indices[:end])


@operator
def nms_match(dets: Tensor, iou_threshold: float) -> list[list[int]]:
    """Group each box that is kept with the boxes that it drops.

    Args:
        dets: (N, 5), corners and score.
        iou_threshold: IoU from which a box is dropped.

    Returns:
        Indices of each group, the box that is kept first.
    """
    order = dets[:, 4].sort(0, descending=True).indices
    ordered = computable(dets)[order, :4]
    groups = []
    alive = np.ones(len(order), dtype=bool)
    names = order.cpu().numpy()
    for best in range(len(order)):
        if not alive[best]:
            continue
        rest = best + 1 + np.flatnonzero(alive[best + 1 :])
        ious = _ious(ordered[best], ordered[torch.from_numpy(rest)], 0).cpu().numpy()
        dropped = rest[ious >= np.float32(iou_threshold)]
        alive[dropped] = False
        groups.append([int(names[best]), *names[dropped].tolist()])
    return groups


@operator
def bbox_overlaps(
    bboxes1: Tensor,
    bboxes2: Tensor,
    ious: Tensor,
    mode: int,
    aligned: bool,
    offset: int,
) -> None:
    """Overlap of boxes.

    Args:
        bboxes1: (N, 4).
        bboxes2: (M, 4), or (N, 4) if they are aligned.
        ious: (N, M) or (N,), gets the overlaps.
        mode: 0 divides by the union, 1 by the area of the first box.
        aligned: Compare each box with one other, instead of with all.
        offset: 1 if the second corner belongs to the box, 0 if not.
    """
    boxes, others = computable(bboxes1), computable(bboxes2)
    if not aligned:
        boxes = boxes[:, None]
    overlap = _ious(boxes, others, offset)
    if mode == 1:
        size = boxes[..., 2:] - boxes[..., :2] + offset
        low, high = (
            boxes[..., :2].maximum(others[..., :2]),
            boxes[..., 2:].minimum(others[..., 2:]),
        )
        overlap = (high - low + offset).clamp(min=0).prod(-1) / size.prod(-1)
    ious.copy_(overlap)
