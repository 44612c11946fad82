"""A small inferencer, and inputs for it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from numpy.typing import NDArray
from PIL import Image

from golden_models import tiny_config
from projects.sam2.apis import SAM2Inferencer
from projects.sam2.apis.inference_io import InferredFrame
from projects.sam2.models import SAM2
from projects.sam2.visualization import write_video
from toy_videos import SIDE, SIZE, toy_frames, toy_model

CONFIG = Config({'model': tiny_config(data_preprocessor={'image_size': (SIDE, SIDE)})})


class FakeCamera:
    """Two frames, if it is number 3."""

    def __init__(self, device: int | str) -> None:
        self.device = device
        self.frames = [np.full((*SIZE, 3), (10, 20, 30), np.uint8)] * 2

    def isOpened(self) -> bool:  # noqa: N802  OpenCV's name
        """Whether there is such a camera."""
        return self.device in {3, 'rtsp://example.org/door'}

    def get(self, what: int) -> float:
        """No property is known."""
        del what
        return 0.0

    def read(self) -> tuple[bool, Any]:
        """The next frame."""
        return (True, self.frames.pop()) if self.frames else (False, None)

    def release(self) -> None:
        """Nothing is held."""


def present_model(**changes: Any) -> SAM2:
    """The small model; it takes every object for present, so that masks are shown."""
    model = toy_model(**changes)
    head = model.mask_decoder.object_score_head
    with torch.no_grad():
        list(head.parameters())[-1].add_(50.0)
    return model


def write_weights(path: Path) -> str:
    """Weights of the small model."""
    torch.save({'state_dict': present_model().state_dict()}, path)
    return str(path)


def small_inferencer(folder: Path) -> SAM2Inferencer:
    """With weights, without a progress bar."""
    weights = write_weights(folder / 'weights.pth')
    return SAM2Inferencer(
        model=CONFIG,
        weights=weights,
        device='cpu',
        show_progress=False,
        automatic_masks={  # the weights are random, so keep any mask
            'points_per_side': 3,
            'pred_iou_thresh': 0.0,
            'stability_score_thresh': 0.0,
            'box_nms_thresh': 0.99,
        },
    )


def write_images(folder: Path, names: Sequence[str]) -> Path:
    """Images of squares over noise."""
    folder.mkdir(parents=True, exist_ok=True)
    for frame, name in zip(toy_frames(len(names)), names, strict=True):
        Image.fromarray(frame).save(folder / name)
    return folder


def write_clip(path: Path, length: int = 4) -> Path:
    """A video file of squares over noise."""
    write_video(path, toy_frames(length))
    return path


def frame_of(
    masks: NDArray[np.bool_], ids: Sequence[int], *, index: int = 0
) -> InferredFrame:
    """A black frame with masks."""
    return InferredFrame(
        frame_index=index,
        pixels=np.zeros((*masks.shape[1:], 3), dtype=np.uint8),
        object_ids=tuple(ids),
        masks=masks,
        ious=(0.5,) * len(masks),
    )


def nested_masks() -> NDArray[np.bool_]:
    """A small object within a large one, both of a frame of the usual size."""
    masks = np.zeros((2, *SIZE), dtype=bool)
    masks[0, 10:20, 10:20] = True
    masks[1, 4:40, 4:60] = True
    return masks
