"""Helpers of the released ``sam2.utils.misc`` and ``sam2.build_sam``."""

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.runner import CheckpointLoader
from torch import Tensor, nn

from ..apis.frame_readers import VideoLike, open_frames
from ..apis.released_video import ReleasedImages
from ..checkpoints import weights_of
from ..models import ClipDataPreprocessor
from ..ops import fill_holes, masks_to_boxes

__all__ = [
    'concat_points',
    'fill_holes_in_mask_scores',
    'get_connected_components',
    'load_checkpoint',
    'load_video_frames',
    'mask_to_box',
]

FILLED_HOLE_LOGIT = 0.1


def load_checkpoint(model: nn.Module, ckpt_path: str | Path | None) -> None:
    """Load a checkpoint of any format into a model; None loads nothing."""
    if ckpt_path is not None:
        source = str(ckpt_path)
        loaded = CheckpointLoader.load_checkpoint(source, 'cpu', logger='silent')
        model.load_state_dict(weights_of(loaded, source=source))


def mask_to_box(masks: Tensor) -> Tensor:
    """Tightest box around each mask, (O, 1, H, W), bool.

    Returns:
        (O, 1, 4), corners ``(x, y, x, y)``; ``(W, H, -1, -1)`` for an empty mask.
    """
    return masks_to_boxes(masks)[:, None]


def get_connected_components(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Label the 8-connected components of masks, (O, 1, H, W), bool or uint8.

    Returns:
        Labels from 1, 0 in the background; and the area of the component at each
        pixel; both (O, 1, H, W), int32.
    """
    planes = mask.cpu().numpy().astype(np.uint8)
    labels, areas = np.zeros(planes.shape, np.int32), np.zeros(planes.shape, np.int32)
    for index in np.ndindex(planes.shape[:2]):
        _, labels[index], stats, _ = cv2.connectedComponentsWithStats(
            planes[index], connectivity=8
        )
        area_of_label = stats[:, cv2.CC_STAT_AREA]
        area_of_label[0] = 0  # background
        areas[index] = area_of_label[labels[index]]
    device = mask.device
    return torch.from_numpy(labels).to(device), torch.from_numpy(areas).to(device)


def fill_holes_in_mask_scores(mask: Tensor, max_area: float) -> Tensor:
    """Set the logits of holes of up to ``max_area`` pixels to 0.1, (O, 1, H, W)."""
    return fill_holes(mask, max_area=max_area, value=FILLED_HOLE_LOGIT)


def concat_points(
    old_point_inputs: Mapping[str, Tensor] | None,
    new_points: Tensor,
    new_labels: Tensor,
) -> dict[str, Tensor]:
    """Append points (O, N, 2) and labels (O, N) to earlier ones, or None.

    Returns:
        ``point_coords`` (O, P + N, 2) and ``point_labels`` (O, P + N).
    """
    if old_point_inputs is not None:
        earlier = old_point_inputs
        new_points = torch.cat([earlier['point_coords'], new_points], dim=1)
        new_labels = torch.cat([earlier['point_labels'], new_labels], dim=1)
    return {'point_coords': new_points, 'point_labels': new_labels}


def load_video_frames(
    video_path: VideoLike,
    image_size: int,
    offload_video_to_cpu: bool = True,
    img_mean: tuple[float, float, float] = (0.485, 0.456, 0.406),
    img_std: tuple[float, float, float] = (0.229, 0.224, 0.225),
    async_loading_frames: bool = False,
    compute_device: str | torch.device = 'cpu',
) -> tuple[ReleasedImages, int, int]:
    """Open a video whose frames are decoded when they are indexed.

    Args:
        video_path: As for ``SAM2VideoPredictor.init_state``.
        image_size: Side of the square frames.
        offload_video_to_cpu: Preprocess frames on the CPU.
        img_mean: Means of the three channels, in 0..1.
        img_std: Standard deviations of the three channels, in 0..1.
        async_loading_frames: Has no effect: frames are decoded one at a time.
        compute_device: Device of the frames, unless they are offloaded.

    Returns:
        The preprocessed frames, indexed like a tensor (T, 3, H, W); and height and
        width of the video.
    """
    del async_loading_frames
    frames = open_frames(video_path)
    preprocessor = ClipDataPreprocessor(
        image_size=(image_size, image_size),
        mean=[255 * value for value in img_mean],
        std=[255 * value for value in img_std],
    )
    preprocessor.to('cpu' if offload_video_to_cpu else compute_device)
    height, width = frames.size
    return ReleasedImages(frames, preprocessor), height, width
