"""Masks as COCO run-length encoding."""

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import cv2
import numpy as np
from numpy.typing import NDArray


class EncodedMask(TypedDict):
    """A mask as COCO writes it to JSON.

    Attributes:
        size: Height and width in pixels.
        counts: Compressed run lengths, column by column.
    """

    size: list[int]
    counts: str


class PlainRuns(TypedDict):
    """A mask as plain run lengths, which COCO tools read as well.

    Attributes:
        size: Height and width in pixels.
        counts: Run lengths, column by column: of false pixels, of true pixels, of false
            ones, and so on.
    """

    size: list[int]
    counts: list[int]


def encode_masks(masks: NDArray[np.bool_]) -> list[EncodedMask]:
    """Encode masks (O, H, W)."""
    # Imported here, since only encoding needs this compiled package.
    from pycocotools import mask as coco_mask  # noqa: PLC0415

    # pycocotools reads column-major (H, W, O).
    columns = np.asfortranarray(masks.transpose(1, 2, 0), dtype=np.uint8)
    codes = coco_mask.encode(columns)  # type: ignore[no-untyped-call]  # a C module
    return [
        EncodedMask(size=list(code['size']), counts=code['counts'].decode('ascii'))
        for code in codes
    ]


def decode_masks(
    encoded: Sequence[EncodedMask | Mapping[str, Any]],
) -> NDArray[np.bool_]:
    """Decode masks of one size.

    Args:
        encoded: ``counts`` may be text, bytes or plain lengths.

    Returns:
        (O, H, W), bool.

    Raises:
        ValueError: If there is no mask, the masks differ in size, or the runs of a
            mask do not fill it.
    """
    sizes = {tuple(code['size']) for code in encoded}
    if len(sizes) != 1:
        msg = f'Expected masks of one size, but got {sorted(sizes)}; decode each alone'
        raise ValueError(msg)
    height, width = next(iter(sizes))
    # Checked before memory is allocated: a damaged mask may claim any size.
    runs_of = [_checked_runs(code['counts'], height, width) for code in encoded]
    masks = np.empty((len(encoded), height, width), dtype=bool)
    for mask, runs in zip(masks, runs_of, strict=True):
        is_true = np.zeros(len(runs), dtype=bool)
        is_true[1::2] = True
        columns = np.repeat(is_true, runs).reshape(width, height)
        if mask.size:  # (W, H) -> (H, W), ten times faster than NumPy
            cv2.transpose(columns.view(np.uint8), dst=mask.view(np.uint8))
    return masks


def count_encoded_pixels(code: EncodedMask | Mapping[str, Any]) -> int:
    """Area of a mask in pixels, without decoding it.

    Raises:
        ValueError: If the runs do not fill the mask.
    """
    height, width = code['size']
    return int(_checked_runs(code['counts'], height, width)[1::2].sum())


def plain_runs(code: EncodedMask | Mapping[str, Any]) -> PlainRuns:
    """Decompress the run lengths of a mask.

    Raises:
        ValueError: If the runs do not fill the mask.
    """
    height, width = code['size']
    runs = _checked_runs(code['counts'], height, width)
    return PlainRuns(size=[height, width], counts=runs.tolist())


def _checked_runs(
    counts: str | bytes | Sequence[int], height: int, width: int
) -> NDArray[np.int64]:
    """Run lengths of a mask, which add up to its size."""
    runs = _runs(counts)
    # Check each run before the sum, which might overflow for huge numbers.
    is_in_range = not len(runs) or (runs.min() >= 0 and runs.max() <= height * width)
    if not is_in_range or runs.sum() != height * width:
        msg = (
            f'Runs of {runs.sum()} pixels do not fill a mask of {height} x {width};'
            ' the annotation is damaged'
        )
        raise ValueError(msg)
    return runs


def _runs(counts: str | bytes | Sequence[int]) -> NDArray[np.int64]:
    """Run lengths, decompressed.

    Each character carries five bits of a number, lowest first, and a sixth bit if more
    follow; the fifth bit of the last character is the sign. From the fourth run on, the
    number is the difference to the second to last run.
    """
    if not isinstance(counts, str | bytes):
        return np.asarray(counts, dtype=np.int64)
    text = counts.encode('ascii') if isinstance(counts, str) else counts
    codes = np.frombuffer(text, dtype=np.uint8).astype(np.int64) - 48
    last = np.flatnonzero((codes & 32) == 0)
    if not len(last) or last[-1] + 1 != len(codes):  # empty or truncated
        return np.zeros(0, dtype=np.int64)
    first = np.concatenate([[0], last[:-1] + 1])
    num_characters = last - first + 1
    shift = 5 * (np.arange(len(codes)) - np.repeat(first, num_characters))
    runs = np.add.reduceat((codes & 31) << shift, first)
    negative = (codes[last] & 16) != 0
    runs -= np.where(negative, np.int64(1) << (5 * num_characters), 0)
    runs[1::2] = runs[1::2].cumsum()
    runs[2::2] = runs[2::2].cumsum()
    return runs
