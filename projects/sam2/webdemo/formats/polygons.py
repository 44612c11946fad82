"""Masks as polygons, for the formats and tools that know nothing else."""

import cv2
import numpy as np
from numpy.typing import NDArray

from ...datasets.io.errors import ClipDataError
from ...datasets.sources.segmentations import fill_polygons

# Pixels that a simplified outline may deviate: the steps of a slanted edge become one
# line, and a polygon that one can edit.
TOLERANCE = 0.8
MIN_IOU = 0.95  # of a simplified mask with its mask; below, the outline stays exact

Ring = NDArray[np.int32]  # (corners, 2), x and y, of a closed outline


def mask_polygons(mask: NDArray[np.bool_]) -> list[list[float]]:
    """Outline a mask.

    Coordinates are those of COCO: a pixel in column x covers x to x + 1. Each connected
    region is one polygon. COCO's polygons have no holes: a hole is joined to the
    outline by an edge that is passed twice, so that it is empty when the polygon is
    filled by the even-odd rule, as COCO's tools, Pillow and OpenCV do.

    Args:
        mask: (H, W), bool.

    Returns:
        ``[x, y, x, y, …]`` of each region, the largest first. Filled by COCO's tools
        they have an IoU of :data:`MIN_IOU` or more with the mask.

    Raises:
        ValueError: If the outlines are so long that no reader should draw them.
    """
    if not mask.any():
        return []
    left, top, crop = crop_to_mask(mask)
    regions = _trace(crop)
    simple = [_join([_simplify(ring) for ring in rings]) for rings in regions]
    if _iou(simple, crop) < MIN_IOU:
        simple = [_join(rings) for rings in regions]
    offset = np.array((left, top), float)
    return [(ring + offset).reshape(-1).tolist() for ring in simple]


def crop_to_mask(mask: NDArray[np.bool_]) -> tuple[int, int, NDArray[np.bool_]]:
    """Cut a mask with a pixel to its bounding box: left, top, and the part."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    top, left = int(rows[0]), int(columns[0])
    return left, top, mask[top : rows[-1] + 1, left : columns[-1] + 1]


def _trace(mask: NDArray[np.bool_]) -> list[list[Ring]]:
    """Follow the edges between pixels.

    Returns:
        For each region (8-connected) its outline and those of its holes, exact.
    """
    # OpenCV follows the centres of the border pixels. In a mask of twice the size the
    # first and the last column of a pixel differ, so that each tells its own edge.
    doubled = mask.repeat(2, axis=0).repeat(2, axis=1).view(np.uint8)
    contours, hierarchy = cv2.findContours(
        doubled, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE
    )
    rings = [
        _without_straight_corners((np.asarray(c, np.int32).reshape(-1, 2) + 1) // 2)
        for c in contours
    ]
    outers = hierarchy[0, :, 3].tolist()  # of a hole its outline, else -1
    regions = {i: [rings[i]] for i, outer in enumerate(outers) if outer < 0}
    for ring, outer in zip(rings, outers, strict=True):
        if outer >= 0:
            regions[outer].append(ring)
    return sorted(regions.values(), key=lambda each: -abs(cv2.contourArea(each[0])))


def _without_straight_corners(ring: Ring) -> Ring:
    """Leave out corners that repeat, or at which the outline goes straight on."""
    ring = ring[(ring != np.roll(ring, 1, axis=0)).any(axis=1)]
    back, ahead = ring - np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0) - ring
    turns = back[:, 0] * ahead[:, 1] != back[:, 1] * ahead[:, 0]
    corners: Ring = ring[turns]
    return corners


def _simplify(ring: Ring) -> Ring:
    """Approximate an outline; one that would vanish stays as it is."""
    points = ring.reshape(-1, 1, 2)
    simple = np.asarray(cv2.approxPolyDP(points, TOLERANCE, closed=True), np.int32)
    return simple.reshape(-1, 2) if len(simple) > 2 else ring


def _join(rings: list[Ring]) -> Ring:
    """Join the holes of a region to its outline, each by an edge there and back."""
    outline, *holes = rings
    nearest = [int(np.square(outline - hole[0]).sum(axis=1).argmin()) for hole in holes]
    parts, last = [], 0
    for corner, hole in sorted(zip(nearest, holes, strict=True), key=lambda p: p[0]):
        parts += [outline[last : corner + 1], hole, hole[:1]]
        last = corner
    return np.concatenate([*parts, outline[last:]])


def _iou(rings: list[Ring], mask: NDArray[np.bool_]) -> float:
    polygons = [ring.reshape(-1).tolist() for ring in rings]
    try:
        drawn = fill_polygons(polygons, mask.shape, 'a mask')
    except ClipDataError as error:
        msg = (
            f'A mask of {len(rings)} regions is too fine for polygons; export it in a '
            f'format of masks instead'
        )
        raise ValueError(msg) from error
    return float((drawn & mask).sum() / (drawn | mask).sum())
