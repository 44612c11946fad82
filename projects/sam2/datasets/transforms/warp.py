"""Applies the composed geometry and colours of a clip, once for each frame."""

from dataclasses import replace
from typing import TypeVar

import cv2
import numpy as np
from mmengine.registry import TRANSFORMS
from numpy.typing import NDArray

from projects.sam2.datasets.transforms.geometry import resize_matrix
from projects.sam2.datasets.transforms.state import ClipState, identity_matrix
from projects.sam2.structures import FrameMasks

FILL_COLOR = (124, 116, 104)  # the mean colour by which frames are normalised
Pixels = TypeVar('Pixels', NDArray[np.uint8], NDArray[np.uint16])


@TRANSFORMS.register_module()
class ClipWarp:
    """Applies what the transforms before it composed.

    Frames are sampled bilinearly after an area-averaged reduction where they shrink
    (no aliasing); masks take the nearest pixel. What comes from outside the frame has
    the mean colour and no object.
    """

    def __call__(self, state: ClipState) -> ClipState:
        """Apply ``matrix`` and ``colors``.

        Args:
            state: A clip with frames and masklets as in their files.

        Returns:
            The clip with frames and masklets of ``size``, the identity as ``matrix``
            and no ``colors``.
        """
        frames = [warp_frame(f, state.matrix, state.size) for f in state.frames]
        if state.colors is not None:
            frames = [
                np.asarray(cv2.transform(frame, color), np.uint8)
                for frame, color in zip(frames, state.colors, strict=True)
            ]
        return replace(
            state,
            frames=tuple(frames),
            masklets=tuple(
                masks and warp_masks(masks, state.matrix, state.size)
                for masks in state.masklets
            ),
            matrix=identity_matrix(),
            colors=None,
        )


def warp_frame(
    frame: NDArray[np.uint8], matrix: NDArray[np.float64], size: tuple[int, int]
) -> NDArray[np.uint8]:
    """Resample a frame.

    Args:
        frame: (height, width, 3).
        matrix: (3, 3), from the frame to the result.
        size: Height and width of the result.

    Returns:
        (size[0], size[1], 3).
    """
    height, width = frame.shape[:2]
    scale_x, scale_y = np.linalg.norm(matrix[:2, :2], axis=0)
    reduced = (
        max(1, round(height * min(1.0, scale_y))),
        max(1, round(width * min(1.0, scale_x))),
    )
    if reduced != (height, width):
        frame = np.asarray(
            cv2.resize(frame, reduced[::-1], interpolation=cv2.INTER_AREA), np.uint8
        )
        matrix = matrix @ np.linalg.inv(resize_matrix((height, width), reduced))
    if reduced == size and np.allclose(matrix, np.eye(3), atol=1e-6):
        return frame
    warped = cv2.warpAffine(
        frame, matrix[:2], size[::-1], flags=cv2.INTER_LINEAR, borderValue=FILL_COLOR
    )
    return np.asarray(warped, np.uint8)


def warp_labels(
    labels: Pixels, matrix: NDArray[np.float64], size: tuple[int, int]
) -> Pixels:
    """Resample a map of labels, each pixel from the nearest one.

    Args:
        labels: (height, width).
        matrix: (3, 3), from the map to the result.
        size: Height and width of the result.

    Returns:
        (size[0], size[1]), 0 where it comes from outside.
    """
    warped: Pixels = cv2.warpAffine(  # type: ignore[assignment]
        labels, matrix[:2], size[::-1], flags=cv2.INTER_NEAREST
    )
    return warped


def warp_masks(
    masks: FrameMasks, matrix: NDArray[np.float64], size: tuple[int, int]
) -> FrameMasks:
    """Resample masks: as one map of labels, or one by one where they overlap.

    Args:
        masks: Masks of a frame, as in the file.
        matrix: (3, 3), from the file to the result.
        size: Height and width of the result.

    Returns:
        Masks of the same objects at ``size``.
    """
    void = masks.void
    layers = masks.masks if void is None else np.concatenate([masks.masks, void[None]])
    if layers.sum(axis=0, dtype=np.uint16).max(initial=0) <= 1:
        values = np.arange(1, len(layers) + 1, dtype=np.uint16)
        labels = (layers * values[:, None, None]).sum(axis=0, dtype=np.uint16)
        warped = warp_labels(labels, matrix, size)[None] == values[:, None, None]
    else:
        warped = np.stack(
            [warp_labels(layer.astype(np.uint8), matrix, size) > 0 for layer in layers]
        )
    count = len(masks.object_ids)
    return FrameMasks(
        object_ids=masks.object_ids,
        masks=warped[:count],
        void=None if void is None else warped[count],
    )
