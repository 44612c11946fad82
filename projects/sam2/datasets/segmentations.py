"""Decodes masks of annotation files: run lengths and polygons, as COCO has them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from projects.sam2.datasets.annotated_video import (
    FrameSize,
    ObjectIds,
    check_size,
)
from projects.sam2.datasets.errors import ClipDataError
from projects.sam2.datasets.json_files import MEND_FILE, expect, shown, take
from projects.sam2.datasets.limits import ReadLimits
from projects.sam2.ops import count_encoded_pixels, decode_masks
from projects.sam2.structures import FrameMasks

Where = Path | str


def checked_rle(code: object, size: FrameSize, where: Where) -> Mapping[str, Any]:
    """Check a run-length encoded mask before it is decoded.

    Args:
        code: ``{'size': [height, width], 'counts': …}``, counts as text or lengths.
        size: Height and width that it must have.
        where: File, for the error.

    Returns:
        The same.

    Raises:
        ClipDataError: If it has another form or size.
    """
    own_size = take(code, 'size', list, where)
    height, width = [expect(n, int, 'size of a mask', where) for n in own_size[:2]] or (
        0,
        0,
    )
    check_size(where, (height, width), size)
    counts = code['counts'] if isinstance(code, Mapping) and 'counts' in code else None
    if isinstance(counts, str) and counts.isascii():
        return {'size': [height, width], 'counts': counts}
    if isinstance(counts, list):
        lengths = np.asarray(counts) if all(type(n) is int for n in counts) else None
        if lengths is not None and lengths.dtype == np.int64:
            return {'size': [height, width], 'counts': lengths}
    problem = f'counts of a mask are {shown(counts)}, expected text or lengths'
    raise ClipDataError.at(where, problem, MEND_FILE)


def count_rle_pixels(code: object, size: FrameSize, where: Where) -> int:
    """Area of a run-length encoded mask, without decoding it.

    Args:
        code: See :func:`checked_rle`.
        size: Height and width that it must have.
        where: File, for the error.

    Returns:
        Number of its pixels.

    Raises:
        ClipDataError: If it has another form or size, or its runs do not fill it.
    """
    try:
        return count_encoded_pixels(checked_rle(code, size, where))
    except ClipDataError:
        raise
    except ValueError as error:
        raise ClipDataError.at(where, str(error), MEND_FILE) from error


def decode_segmentation(
    code: object, size: FrameSize, where: Where
) -> NDArray[np.bool_]:
    """Decode a mask.

    Args:
        code: Run lengths, see :func:`checked_rle`; a list of polygons
            ``[x, y, x, y, …]``; or None for nothing.
        size: Height and width that the mask must have.
        where: File, for the error.

    Returns:
        (height, width).

    Raises:
        ClipDataError: If it is damaged or of another size.
    """
    if code is None:
        return np.zeros(size, bool)
    if isinstance(code, list):
        return fill_polygons(code, size, where)
    try:
        mask: NDArray[np.bool_] = decode_masks([checked_rle(code, size, where)])[0]
    except ClipDataError:
        raise
    except ValueError as error:
        raise ClipDataError.at(where, str(error), MEND_FILE) from error
    return mask


def fill_polygons(
    polygons: Sequence[object], size: FrameSize, where: Where
) -> NDArray[np.bool_]:
    """Draw polygons, by COCO's rule of which pixels lie inside.

    Args:
        polygons: Each ``[x, y, x, y, …]``, of three corners at least.
        size: Height and width of the mask.
        where: File, for the error.

    Returns:
        (height, width), what lies in any of them.

    Raises:
        ClipDataError: If a polygon is none, or far outside of the frame.
    """
    height, width = size
    corners = [_corners(polygon, size, where) for polygon in polygons]
    if not corners:
        return np.zeros(size, bool)
    # Compiled, and needed for polygons alone.
    from pycocotools import mask as coco_mask  # noqa: PLC0415

    codes = coco_mask.frPyObjects(corners, height, width)
    merged = coco_mask.merge(codes)
    mask: NDArray[np.bool_] = decode_masks([merged])[0]
    return mask


def _corners(polygon: object, size: FrameSize, where: Where) -> list[float]:
    """Corners of a polygon; the C library takes memory by their distance."""
    values = expect(polygon, list, 'a polygon', where)
    try:
        corners = np.asarray(values, np.float64)
    except (TypeError, ValueError, OverflowError):
        corners = np.zeros(0)
    reach = max(size)
    good = corners.ndim == 1 and len(corners) >= 6 and len(corners) % 2 == 0
    if not good or not ((corners >= -reach) & (corners <= 2 * reach)).all():
        problem = (
            f'a polygon is {shown(values)}, expected three corners or more (x, y) near '
            f'a frame of {size} (height, width)'
        )
        raise ClipDataError.at(where, problem, MEND_FILE)
    return [float(value) for value in corners]


def decode_objects(
    code_of: Mapping[int, object],
    object_ids: ObjectIds | None,
    size: FrameSize,
    where: Where,
    limits: ReadLimits,
) -> FrameMasks:
    """Decode the masks of a frame.

    Args:
        code_of: Encoded mask of each object, see :func:`decode_segmentation`.
        object_ids: Objects to decode, empty where there is no mask; None for those
            that are seen.
        size: Height and width that they must have.
        where: File, for the error.
        limits: Checked before decoding.

    Returns:
        The masks.

    Raises:
        ClipDataError: If a mask is damaged, or they are too many to be held at once.
    """
    if object_ids is None:
        object_ids = seen_objects(code_of, size, where)
    limits.check_masks(where, len(object_ids), size)
    masks = np.zeros((len(object_ids), *size), bool)
    for mask, object_id in zip(masks, object_ids, strict=True):
        mask[:] = decode_segmentation(code_of.get(object_id), size, where)
    return FrameMasks(object_ids=object_ids, masks=masks)


def seen_objects(
    code_of: Mapping[int, object], size: FrameSize, where: Where
) -> ObjectIds:
    """Find the objects whose mask has a pixel; run lengths are not decoded for it.

    Args:
        code_of: Encoded mask of each object, see :func:`decode_segmentation`.
        size: Height and width that they must have.
        where: File, for the error.

    Returns:
        Their ids, in the order of ``code_of``.

    Raises:
        ClipDataError: If a mask is damaged.
    """
    return tuple(each for each, code in code_of.items() if _is_seen(code, size, where))


def _is_seen(code: object, size: FrameSize, where: Where) -> bool:
    """Whether a mask has a pixel; a polygon has to be drawn to know."""
    if code is None:
        return False
    if isinstance(code, list):
        return bool(fill_polygons(code, size, where).any())
    return count_rle_pixels(code, size, where) > 0
