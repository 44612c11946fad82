"""Plain implementations of loading a clip: the baselines of clip_loading.py."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps
from pycocotools import mask as coco_mask
from torch import Tensor

from projects.sam2.datasets import ClipState
from projects.sam2.datasets.transforms.augmentation import Affine, ColorJitter
from projects.sam2.ops.rle import EncodedMask
from projects.sam2.structures import FrameMasks

NUM_FRAMES = 8
SIZE, NEW_SIZE = (720, 1280), (1024, 1024)
ENHANCERS = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
FILL_COLOR = (124, 116, 104)
MEAN = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
# The same augmentation as plain_clip, as transforms.
TRANSFORM_CONFIGS = (
    {'type': 'ClipRandomFlip', 'probability': 1.0},
    {'type': 'ClipRandomAffine', 'degrees': 25, 'shear': 20},
    {'type': 'ClipResize', 'size': NEW_SIZE},
    {
        'type': 'ClipColorJitter',
        'brightness': 0.1,
        'contrast': 0.03,
        'saturation': 0.03,
        'consistent': True,
    },
    {
        'type': 'ClipColorJitter',
        'brightness': 0.1,
        'contrast': 0.05,
        'saturation': 0.05,
        'consistent': False,
    },
)


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratedSource:
    """A generated video that repeats one frame."""

    frame: NDArray[np.uint8]
    masks: FrameMasks
    name: str = 'generated'
    num_frames: int = NUM_FRAMES

    def frame_name(self, frame_index: int) -> str:
        """Name of a frame."""
        return f'{frame_index:05d}'

    def read_frame(self, frame_index: int) -> NDArray[np.uint8]:
        """The frame: (height, width, 3), RGB."""
        del frame_index
        return self.frame

    def read_masks(self, frame_index: int) -> FrameMasks:
        """Masks of the frame."""
        del frame_index
        return self.masks

    def annotated_frames(self) -> tuple[int, ...]:
        """All frames."""
        return tuple(range(self.num_frames))


def make_source() -> GeneratedSource:
    """Generate a textured frame with three discs as objects."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 255, (24, 40, 3), np.uint8)
    smooth = cv2.resize(coarse, SIZE[::-1], interpolation=cv2.INTER_CUBIC)
    noise = rng.normal(0, 3, smooth.shape)
    frame = np.clip(smooth + noise, 0, 255).astype(np.uint8)
    y, x = np.indices(SIZE)
    masks = np.stack([np.hypot(y - 360, x - c) < 130 for c in (380, 640, 900)])
    return GeneratedSource(
        frame=frame, masks=FrameMasks(object_ids=(1, 2, 3), masks=masks)
    )


def make_state(source: GeneratedSource) -> ClipState:
    """Build the state of a loaded clip."""
    indices = source.annotated_frames()
    return ClipState(
        source=source,
        sample_index=0,
        seed=0,
        rng=np.random.default_rng(3),
        frame_indices=indices,
        object_ids=source.masks.object_ids,
        first_masks=source.masks,
        frames=tuple(source.read_frame(index) for index in indices),
        masklets=tuple(source.read_masks(index) for index in indices),
        original_size=SIZE,
        size=SIZE,
    )


def plain_clip(
    state: ClipState,
    affine: Affine,
    first: list[ColorJitter],
    second: list[ColorJitter],
) -> tuple[Tensor, Tensor]:
    """Flip, rotate, resize and jitter a clip, one operation after another.

    Returns:
        Frames (T, 3, H, W), normalised, and masks (T, O, H, W).
    """
    inverse = np.linalg.inv(affine.matrix(SIZE))
    inverse[:2, 2] += 0.5 - inverse[:2, :2] @ (0.5, 0.5)
    coefficients = inverse[:2].reshape(-1).tolist()
    frames: list[Tensor] = []
    masklets: list[Tensor] = []
    for time, (frame, masks) in enumerate(
        zip(state.frames, state.masklets, strict=True)
    ):
        image = ImageOps.mirror(Image.fromarray(frame))
        image = image.transform(
            image.size,
            Image.Transform.AFFINE,
            coefficients,
            Image.Resampling.BILINEAR,
            fillcolor=FILL_COLOR,
        )
        image = image.resize(NEW_SIZE[::-1], Image.Resampling.BILINEAR)
        for jitter in (first[time], second[time]):
            for index in jitter.order:
                image = ENHANCERS[index](image).enhance(jitter.factors[index])
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()
        frames.append((pixels.float().div(255) - MEAN) / STD)
        if masks is not None:
            masklets += [plain_mask(mask, affine) for mask in masks.masks]
    return torch.stack(frames), torch.stack(masklets).view(len(frames), -1, *NEW_SIZE)


def plain_mask(mask: NDArray[np.bool_], affine: Affine) -> Tensor:
    """Flip, rotate and resize a mask.

    Args:
        mask: (height, width).

    Returns:
        (H, W), bool.
    """
    height, width = mask.shape
    to_grid = np.array(
        [[2 / width, 0, 1 / width - 1], [0, 2 / height, 1 / height - 1], [0, 0, 1]]
    )
    theta = to_grid @ np.linalg.inv(affine.matrix(SIZE)) @ np.linalg.inv(to_grid)
    pixels = torch.from_numpy(mask)[None, None].flip(3).float()
    grid = F.affine_grid(
        torch.from_numpy(theta[None, :2]).float(), [*pixels.shape], align_corners=False
    )
    rotated = F.grid_sample(pixels, grid, mode='nearest', align_corners=False)
    resized = F.interpolate(rotated, size=NEW_SIZE, mode='bilinear', antialias=True)
    return resized[0, 0] > 0.5


def plain_jpeg(path: Path) -> NDArray[np.uint8]:
    """Decode a frame.

    Returns:
        (height, width, 3).
    """
    with Image.open(path) as image:
        return np.asarray(image.convert('RGB'), np.uint8)


def plain_png(path: Path) -> NDArray[np.uint8]:
    """Decode a map of labels.

    Returns:
        (height, width).
    """
    with Image.open(path) as image:
        return np.asarray(image, np.uint8)


def plain_rle(encoded: Sequence[EncodedMask]) -> NDArray[np.bool_]:
    """Decode masks.

    Returns:
        (O, height, width).
    """
    codes = [{**code, 'counts': code['counts'].encode()} for code in encoded]
    decoded = coco_mask.decode(codes)  # type: ignore[no-untyped-call]
    return np.ascontiguousarray(decoded.transpose(2, 0, 1), bool)


def plain_sav(path: Path, positions: Sequence[int]) -> list[list[Any]]:
    """Parse an SA-V file and select the masks of some frames."""
    frames = json.loads(path.read_text(encoding='utf-8'))['masklet']
    return [frames[position] for position in positions]
