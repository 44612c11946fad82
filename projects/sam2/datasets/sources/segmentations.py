"""Masks of annotation files: run lengths and polygons, as in COCO."""

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ...ops import count_encoded_pixels, decode_masks
from ...structures import FrameMasks
from ..annotated_video import FrameSize, MaskReader, ObjectIds, check_size
from ..io.errors import ClipDataError, ReadLimits
from ..io.json_files import FIX_FILE, check_type, describe, get_field

Where = Path | str
MIN_CORNERS = 3  # of a polygon; fewer enclose no pixel
# Pixels, of all polygons of a frame: pycocotools takes 45 bytes and 40 ns for each.
MAX_EDGE_LENGTH = 2**24


class EncodedMasks(MaskReader):
    """Reads masks that an annotation file holds as run lengths or polygons."""

    lists_seen: ClassVar[bool] = True
    limits: ReadLimits

    @abstractmethod
    def codes(self, frame_index: int) -> Mapping[int, object]:
        """Encoded mask of each object, see :func:`decode_segmentation`."""

    @abstractmethod
    def where(self, frame_index: int) -> str:
        """Where the masks of a frame are, for errors."""

    def read(
        self, frame_index: int, size: FrameSize, object_ids: ObjectIds | None = None
    ) -> FrameMasks:
        """Decode masks of a frame, see :class:`MaskReader`."""
        codes, where = self.codes(frame_index), self.where(frame_index)
        return decode_objects(codes, object_ids, size, where, self.limits)

    def seen(self, frame_index: int, size: FrameSize) -> ObjectIds:
        """Objects with a pixel, see :class:`MaskReader`."""
        return seen_objects(self.codes(frame_index), size, self.where(frame_index))


def decode_objects(
    codes: Mapping[int, object],
    object_ids: ObjectIds | None,
    size: FrameSize,
    where: Where,
    limits: ReadLimits,
) -> FrameMasks:
    """Decode the masks of a frame.

    Args:
        codes: Encoded mask of each object, see :func:`decode_segmentation`.
        object_ids: Objects to decode, with an empty mask where one has no code; None
            for all that are visible.

    Raises:
        ClipDataError: If a mask is damaged, or they exceed the limits.
    """
    if object_ids is None:
        object_ids = seen_objects(codes, size, where)
    limits.check_masks(where, len(object_ids), size)
    chosen = {object_id: codes.get(object_id) for object_id in object_ids}
    check_polygons(chosen, size, where)
    masks = np.zeros((len(object_ids), *size), bool)
    for mask, object_id in zip(masks, object_ids, strict=True):
        source = f'{where}, object {object_id}'
        mask[:] = decode_segmentation(chosen[object_id], size, source)
    return FrameMasks(object_ids=object_ids, masks=masks)


def seen_objects(
    codes: Mapping[int, object], size: FrameSize, where: Where
) -> ObjectIds:
    """Find the objects whose mask has a pixel, without decoding run lengths.

    Args:
        codes: Encoded mask of each object, see :func:`decode_segmentation`.
    """
    check_polygons(codes, size, where)
    return tuple(
        object_id
        for object_id, code in codes.items()
        if _has_pixels(code, size, f'{where}, object {object_id}')
    )


def _has_pixels(code: object, size: FrameSize, where: Where) -> bool:
    if code is None:
        return False
    if isinstance(code, list):  # a polygon has to be drawn to know
        return bool(fill_polygons(code, size, where).any())
    return count_rle_pixels(code, size, where) > 0


def decode_segmentation(
    code: object, size: FrameSize, where: Where
) -> NDArray[np.bool_]:
    """Decode a mask.

    Args:
        code: Run lengths, see :func:`checked_rle`; a list of polygons
            ``[x, y, x, y, …]``; or None for an empty mask.
        size: Height and width that the mask must have.

    Returns:
        (height, width).

    Raises:
        ClipDataError: If it is damaged or has another size.
    """
    if code is None:
        return np.zeros(size, bool)
    if isinstance(code, list):
        return fill_polygons(code, size, where)
    rle = checked_rle(code, size, where)
    try:
        mask: NDArray[np.bool_] = decode_masks([rle])[0]
    except ValueError as error:
        raise ClipDataError.at(where, str(error), FIX_FILE) from error
    return mask


# Run lengths -------------------------------------------------------------------------


def checked_rle(code: object, size: FrameSize, where: Where) -> Mapping[str, Any]:
    """Check a run-length encoded mask before it is decoded.

    Args:
        code: ``{'size': [height, width], 'counts': …}``, counts as text or lengths.
        size: Height and width that it must have.

    Raises:
        ClipDataError: If it has another form or size.
    """
    own_size = [
        check_type(side, int, 'size of a mask', where)
        for side in get_field(code, 'size', list, where)[:2]
    ]
    check_size(where, own_size, size)
    counts = code['counts'] if isinstance(code, Mapping) and 'counts' in code else None
    if isinstance(counts, str) and counts.isascii():
        return {'size': own_size, 'counts': counts}
    if isinstance(counts, list) and all(type(n) is int for n in counts):
        lengths = np.asarray(counts)
        if lengths.dtype == np.int64:
            return {'size': own_size, 'counts': lengths}
    problem = f'counts of a mask are {describe(counts)}, expected text or lengths'
    raise ClipDataError.at(where, problem, FIX_FILE)


def count_rle_pixels(code: object, size: FrameSize, where: Where) -> int:
    """Count the pixels of a run-length encoded mask without decoding it.

    Raises:
        ClipDataError: If it has another form or size, or its runs do not fill it.
    """
    rle = checked_rle(code, size, where)
    try:
        return count_encoded_pixels(rle)
    except ValueError as error:
        raise ClipDataError.at(where, str(error), FIX_FILE) from error


# Polygons ----------------------------------------------------------------------------


def fill_polygons(
    polygons: Sequence[object], size: FrameSize, where: Where
) -> NDArray[np.bool_]:
    """Draw the union of polygons, by COCO's rule of which pixels lie inside.

    Args:
        polygons: Each ``[x, y, x, y, …]``; those of fewer than three corners are empty.

    Returns:
        (height, width).

    Raises:
        ClipDataError: See :func:`checked_corners` and :func:`check_edges`.
    """
    corners = [checked_corners(polygon, size, where) for polygon in polygons]
    check_edges(corners, where)
    areas = [polygon.tolist() for polygon in corners if is_area(polygon)]
    if not areas:
        return np.zeros(size, bool)
    # Compiled, and needed for polygons only.
    from pycocotools import mask as coco_mask  # noqa: PLC0415

    codes = coco_mask.frPyObjects(areas, *size)
    # In pairs: the library merges into one growing mask, in quadratic time.
    while len(codes) > 1:
        codes = [coco_mask.merge(codes[i : i + 2]) for i in range(0, len(codes), 2)]
    mask: NDArray[np.bool_] = decode_masks(codes)[0]
    return mask


def is_area(polygon: Sequence[float] | NDArray[np.float64]) -> bool:
    """Whether a polygon has at least three corners."""
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
        ClipDataError: If it is not a list of finite numbers, their count is odd, or one
            is far outside of the frame: the C library allocates memory by the length of
            the edges.
    """
    values = check_type(polygon, list, 'a polygon', where)
    corners = np.zeros(0)
    problem = ''
    if not all(type(value) in {int, float} for value in values):  # nor bool
        invalid = next(v for v in values if type(v) not in {int, float})
        # A record is kept as JSON, where NaN becomes null.
        text = 'null or NaN' if invalid is None else describe(invalid)
        problem = f'{text} among them'
    elif len(values) % 2:
        problem = 'an odd count'
    else:
        try:
            corners = np.asarray(values, np.float64)
        except OverflowError:
            problem = 'one of them too large'
    reach = max(size)
    is_far = ~((corners >= -reach) & (corners <= 2 * reach))  # also NaN
    if is_far.any():
        problem = f'{corners[is_far][0]:g} among them'
    if problem:
        problem = (
            f'a polygon has {len(values)} numbers, {problem}, expected pairs (x, y) '
            f'near a frame of {size} (height, width)'
        )
        raise ClipDataError.at(where, problem, FIX_FILE)
    return corners


def check_polygons(codes: Mapping[int, object], size: FrameSize, where: Where) -> None:
    """Check all polygons of a frame before one is drawn: each alone may be small."""
    check_edges(
        (
            checked_corners(polygon, size, f'{where}, object {object_id}')
            for object_id, code in codes.items()
            if isinstance(code, list)
            for polygon in code
        ),
        where,
    )


def check_edges(polygons: Iterable[NDArray[np.float64]], where: Where) -> None:
    """Refuse polygons, (2 * corners,) each, that take too much memory to draw."""
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
