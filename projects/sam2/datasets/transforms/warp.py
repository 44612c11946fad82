"""Applies the composed geometry and colours of a clip, once for each frame."""

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
from mmengine.registry import TRANSFORMS
from numpy.typing import NDArray

from projects.sam2.datasets.transforms.geometry import resize_matrix
from projects.sam2.datasets.transforms.state import ClipState, identity_matrix
from projects.sam2.structures import FrameMasks

BITS = 8
DIRECT_SCALE = 2 / 3  # down to which bilinear sampling leaves no pixel out
FILL_COLOR = (124, 116, 104)  # the mean colour by which frames are normalised


@TRANSFORMS.register_module()
class ClipWarp:
    """Applies what the transforms before it composed.

    Frames are sampled bilinearly, after an area-averaged reduction where they shrink
    to less than two thirds (no aliasing); masks take the nearest pixel. What comes
    from outside the frame has the mean colour, changed as the frame's, and no object.
    """

    def __call__(self, state: ClipState) -> ClipState:
        """Apply ``matrix`` and ``colors``.

        Args:
            state: A clip with frames and masklets as in their files.

        Returns:
            The clip with frames and masklets of ``size``, the identity as ``matrix``
            and no ``colors``.
        """
        matrices = np.broadcast_to(state.matrix, (state.num_frames, 3, 3))
        frames = state.frames
        fills = [FILL_COLOR] * state.num_frames
        if state.colors is not None:
            pairs = list(zip(frames, state.colors, strict=True))
            frames = tuple(np.asarray(cv2.transform(*p), np.uint8) for p in pairs)
            fills = [color @ (*FILL_COLOR, 1) for _, color in pairs]
        return replace(
            state,
            frames=tuple(
                warp_frame(frame, matrix, state.size, fill)
                for frame, matrix, fill in zip(frames, matrices, fills, strict=True)
            ),
            masklets=tuple(
                masks and warp_masks(masks, matrix, state.size)
                for masks, matrix in zip(state.masklets, matrices, strict=True)
            ),
            matrix=identity_matrix(),
            colors=None,
        )


def warp_frame(
    frame: NDArray[np.uint8],
    matrix: NDArray[np.float64],
    size: tuple[int, int],
    fill: Sequence[float] | NDArray[np.float64] = FILL_COLOR,
) -> NDArray[np.uint8]:
    """Resample a frame.

    Args:
        frame: (height, width, 3).
        matrix: (3, 3), from the frame to the result.
        size: Height and width of the result.
        fill: (3,), colour of what comes from outside.

    Returns:
        (size[0], size[1], 3).
    """
    height, width = frame.shape[:2]
    scale_x, scale_y = np.linalg.norm(matrix[:2, :2], axis=0)
    reduced = (shrunk_side(height, scale_y), shrunk_side(width, scale_x))
    if reduced != (height, width):
        frame = np.asarray(
            cv2.resize(frame, reduced[::-1], interpolation=cv2.INTER_AREA), np.uint8
        )
        matrix = matrix @ np.linalg.inv(resize_matrix((height, width), reduced))
    if reduced == size and np.allclose(matrix, np.eye(3), atol=1e-6):
        return frame
    # OpenCV warps four channels in little more than half the time of three.
    warped = cv2.warpAffine(
        cv2.cvtColor(frame, cv2.COLOR_RGB2RGBA),
        matrix[:2],
        size[::-1],
        flags=cv2.INTER_LINEAR,
        borderValue=tuple(np.clip(fill, 0, 255).tolist()),
    )
    return np.asarray(cv2.cvtColor(warped, cv2.COLOR_RGBA2RGB), np.uint8)


def shrunk_side(length: int, scale: float) -> int:
    """Side to which a frame is averaged before it is sampled.

    Args:
        length: Of the side, in pixels.
        scale: By which it will change.

    Returns:
        The same side where it loses less than a third.
    """
    return length if scale >= DIRECT_SCALE else max(1, round(length * scale))


def warp_labels(
    labels: NDArray[np.uint8], matrix: NDArray[np.float64], size: tuple[int, int]
) -> NDArray[np.uint8]:
    """Resample a map of labels, each pixel from the nearest one.

    Args:
        labels: (height, width).
        matrix: (3, 3), from the map to the result.
        size: Height and width of the result.

    Returns:
        (size[0], size[1]), 0 where it comes from outside.
    """
    warped = cv2.warpAffine(labels, matrix[:2], size[::-1], flags=cv2.INTER_NEAREST)
    return np.asarray(warped, np.uint8)


def warp_masks(
    masks: FrameMasks, matrix: NDArray[np.float64], size: tuple[int, int]
) -> FrameMasks:
    """Resample masks, eight at a time as the bits of one map.

    Args:
        masks: Masks of a frame, as in the file; they may overlap.
        matrix: (3, 3), from the file to the result.
        size: Height and width of the result.

    Returns:
        Masks of the same objects at ``size``.
    """
    layers = [*masks.masks] if masks.void is None else [*masks.masks, masks.void]
    warped = np.empty((len(layers), *size), bool)
    for start in range(0, len(layers), BITS):
        labels = as_bits(layers[start : start + BITS])
        labels = warp_labels(labels, matrix, size)
        for bit, layer in enumerate(warped[start : start + BITS]):
            np.not_equal(labels & np.uint8(1 << bit), 0, out=layer)
    count = len(masks.object_ids)
    return FrameMasks(
        object_ids=masks.object_ids,
        masks=warped[:count],
        void=None if masks.void is None else warped[count],
    )


def as_bits(layers: Sequence[NDArray[np.bool_]]) -> NDArray[np.uint8]:
    """Put masks into the bits of one map.

    Args:
        layers: 1 to 8 masks (height, width).

    Returns:
        (height, width), the first mask in the lowest bit.
    """
    labels = layers[0].astype(np.uint8)
    for bit, layer in enumerate(layers[1:], 1):
        labels |= layer.view(np.uint8) << np.uint8(bit)
    return labels
