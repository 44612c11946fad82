"""Decodes masks of annotation files: run lengths and polygons, as COCO has them."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...ops import count_encoded_pixels, decode_masks
from ...structures import FrameMasks
from ..annotated_video import FrameSize, ObjectIds, check_size
from ..io.errors import ClipDataError, ReadLimits
from ..io.json_files import FIX_FILE, check_type, describe, get_field

Where = Path | str
MIN_CORNERS = 3
# Pixels, of all polygons of a frame: pycocotools takes 45 bytes and 40 ns for each.
MAX_EDGE_LENGTH = 2**24


def checked_rle(code: object, size: FrameSize, where: Where) -> Mapping[str, Any]:
    """Check a run-length encoded mask before it is decoded.

    Args:
        code: ``{'size': [height, width], 'counts': …}``, counts as text or lengths.
        size: Height and width that it must have.

    Raises:
        ClipDataError: If it has another form or size.
    """
    own_size = get_field(code, 'size', list, where)
    height, width = [
        check_type(n, int, 'size of a mask', where) for n in own_size[:2]
    ] or (
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
    problem = f'counts of a mask are {describe(counts)}, expected text or lengths'
    raise ClipDataError.at(where, problem, FIX_FILE)


def count_rle_pixels(code: object, size: FrameSize, where: Where) -> int:
    """Area of a run-length encoded mask, without decoding it.

    Args:
        code: See :func:`checked_rle`.
        size: Height and width that it must have.

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
        raise ClipDataError.at(where, str(error), FIX_FILE) from error


def decode_segmentation(
    code: object, size: FrameSize, where: Where
) -> NDArray[np.bool_]:
    """Decode a mask.

    Args:
        code: Run lengths, see :func:`checked_rle`; a list of polygons
            ``[x, y, x, y, …]``; or None for nothing.
        size: Height and width that the mask must have.

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
        raise ClipDataError.at(where, str(error), FIX_FILE) from error
    return mask


def fill_polygons(
    polygons: Sequence[object], size: FrameSize, where: Where
) -> NDArray[np.bool_]:
    """Draw polygons, by COCO's rule of which pixels lie inside.

    Args:
        polygons: Each ``[x, y, x, y, …]``. Those of fewer than three corners cover
            nothing.

    Returns:
        (height, width), what lies in any of them.

    Raises:
        ClipDataError: If a polygon is none, or far outside of the frame, or the edges
            are too long in all.
    """
    corners = [checked_corners(polygon, size, where) for polygon in polygons]
    check_edges(corners, where)
    drawn = [each.tolist() for each in corners if is_area(each)]
    if not drawn:
        return np.zeros(size, bool)
    # Compiled, and needed for polygons alone.
    from pycocotools import mask as coco_mask  # noqa: PLC0415

    codes = coco_mask.frPyObjects(drawn, *size)
    # In pairs: the library merges into one growing mask, which for many polygons takes
    # the square of their number.
    while len(codes) > 1:
        codes = [coco_mask.merge(codes[i : i + 2]) for i in range(0, len(codes), 2)]
    mask: NDArray[np.bool_] = decode_masks(codes)[0]
    return mask


def is_area(polygon: Sequence[float] | NDArray[np.float64]) -> bool:
    """Whether a polygon has three corners or more; fewer enclose no pixel."""
    return len(polygon) >= 2 * MIN_CORNERS


def checked_corners(
    polygon: object, size: FrameSize, where: Where
) -> NDArray[np.float64]:
    """Check the corners of a polygon before it is drawn.

    Args:
        polygon: ``[x, y, x, y, …]``, as it stands in a file.

    Returns:
        The same as an array, (2 * corners,).

    Raises:
        ClipDataError: If it is no list of finite numbers, their count is odd, or one of
            them is far outside of the frame: the C library takes memory by the length
            of the edges.
    """
    values = check_type(polygon, list, 'a polygon', where)
    corners = np.zeros(0)
    problem = ''
    if not all(type(value) in {int, float} for value in values):
        strange = next(v for v in values if type(v) not in {int, float})
        # A record is kept as JSON, where NaN becomes null.
        text = 'null or NaN' if strange is None else describe(strange)
        problem = f'with {text} among them'
    elif len(values) % 2:
        problem = 'an odd count'
    else:
        try:
            corners = np.asarray(values, np.float64)
        except OverflowError:
            problem = 'with one beyond all bounds'
    reach = max(size)
    far = ~((corners >= -reach) & (corners <= 2 * reach))  # NaN as well
    if far.any():
        problem = f'with {corners[far][0]:g} among them'
    if problem:
        problem = (
            f'a polygon has {len(values)} numbers, {problem}, expected pairs (x, y) '
            f'near a frame of {size} (height, width)'
        )
        raise ClipDataError.at(where, problem, FIX_FILE)
    return corners


def check_edges(polygons: Iterable[NDArray[np.float64]], where: Where) -> None:
    """Refuse polygons that take too much memory and time to draw.

    Args:
        polygons: Corners of each, (2 * corners,).

    Raises:
        ClipDataError: If their edges are longer than :data:`MAX_EDGE_LENGTH` in all.
    """
    length = 0.0
    for polygon in polygons:
        points = polygon.reshape(-1, 2)
        if len(points):
            length += float(np.abs(points - np.roll(points, 1, axis=0)).max(1).sum())
    if length > MAX_EDGE_LENGTH:
        problem = (
            f'has polygons whose edges are {length:.0f} pixels long, more than '
            f'{MAX_EDGE_LENGTH}'
        )
        raise ClipDataError.at(where, problem, FIX_FILE)


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

    Raises:
        ClipDataError: If a mask is damaged, or they are too many to be held at once.
    """
    if object_ids is None:
        object_ids = seen_objects(code_of, size, where)
    limits.check_masks(where, len(object_ids), size)
    chosen = {object_id: code_of.get(object_id) for object_id in object_ids}
    check_polygons(chosen, size, where)
    masks = np.zeros((len(object_ids), *size), bool)
    for mask, object_id in zip(masks, object_ids, strict=True):
        place = _object_at(where, object_id)
        mask[:] = decode_segmentation(chosen[object_id], size, place)
    return FrameMasks(object_ids=object_ids, masks=masks)


def seen_objects(
    code_of: Mapping[int, object], size: FrameSize, where: Where
) -> ObjectIds:
    """Find the objects whose mask has a pixel; run lengths are not decoded for it.

    Args:
        code_of: Encoded mask of each object, see :func:`decode_segmentation`.
        size: Height and width that they must have.

    Returns:
        Their ids, in the order of ``code_of``.

    Raises:
        ClipDataError: If a mask is damaged.
    """
    check_polygons(code_of, size, where)
    return tuple(
        object_id
        for object_id, code in code_of.items()
        if _is_seen(code, size, _object_at(where, object_id))
    )


def check_polygons(
    code_of: Mapping[int, object], size: FrameSize, where: Where
) -> None:
    """Check the polygons of a frame, and their edges in all: each alone may be small.

    Args:
        code_of: Encoded mask of each object, see :func:`decode_segmentation`.

    Raises:
        ClipDataError: See :func:`checked_corners` and :func:`check_edges`.
    """
    check_edges(
        (
            checked_corners(polygon, size, _object_at(where, object_id))
            for object_id, code in code_of.items()
            if isinstance(code, list)
            for polygon in code
        ),
        where,
    )


def _object_at(where: Where, object_id: int) -> str:
    return f'{where}, object {object_id}'


def _is_seen(code: object, size: FrameSize, where: Where) -> bool:
    """Whether a mask has a pixel; a polygon has to be drawn to know."""
    if code is None:
        return False
    if isinstance(code, list):
        return bool(fill_polygons(code, size, where).any())
    return count_rle_pixels(code, size, where) > 0
