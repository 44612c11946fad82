"""Prepares clips and videos: collated, resized and normalised on the device."""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from mmengine.model import BaseDataPreprocessor
from mmengine.registry import MODELS
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ..ops import match_weights, resize_masks, send_to_device
from ..structures import (
    ClipBatch,
    ClipSample,
    ClipTargets,
    FrameMasks,
    PointPrompt,
    VideoRecord,
)


@MODELS.register_module()
class ClipDataPreprocessor(BaseDataPreprocessor):
    """Collates clips on the device, and normalises frames there.

    Args:
        image_size: Height and width of the model's input. Frames of a video are resized
            to it; clips must have it already, unless :class:`ClipRandomResize` drew
            their size.
        mean: Mean of red, green and blue, in 0..255.
        std: Standard deviation of red, green and blue, in 0..255.
        size_divisor: What the backbone needs the sides to be multiples of.

    Raises:
        ValueError: If a side of ``image_size`` is no multiple of ``size_divisor``.
    """

    def __init__(
        self,
        *,
        image_size: tuple[int, int] = (1024, 1024),
        mean: Sequence[float] = (123.675, 116.28, 103.53),
        std: Sequence[float] = (58.395, 57.12, 57.375),
        size_divisor: int = 32,
    ) -> None:
        super().__init__(non_blocking=True)
        if any(side % size_divisor or side <= 0 for side in image_size):
            msg = f'image_size is {image_size}; give multiples of {size_divisor}'
            raise ValueError(msg)
        self.size_divisor = size_divisor
        self.image_size = image_size
        self._mean = torch.tensor(mean).view(3, 1, 1)
        self._std = torch.tensor(std).view(3, 1, 1)
        self.register_buffer('mean', self._mean.clone(), persistent=False)
        self.register_buffer('std', self._std.clone(), persistent=False)

    mean: Tensor
    std: Tensor

    def forward(  # type: ignore[override]  # lists come from our loaders, not dicts
        self,
        data: Sequence[ClipSample] | Sequence[VideoRecord],
        training: bool = False,
    ) -> dict[str, Any]:
        """Prepare a batch of the loader: collate clips, pass videos on unchanged.

        Returns:
            ``{'inputs': ...}``, the keyword of :meth:`SAM2.forward`.
        """
        clips = [item for item in data if isinstance(item, ClipSample)]
        return {'inputs': self.collate(clips) if clips else list(data)}

    def collate(self, samples: Sequence[ClipSample]) -> ClipBatch:
        """Stack clips, their objects one after another, on the device of this module.

        Raises:
            ValueError: If the clips differ in length or frame size, do not have the
                model's size, or show no object.
        """
        shapes = {tuple(sample.frames.shape) for sample in samples}
        if len(shapes) > 1:
            names = ', '.join(sample.video_name for sample in samples)
            msg = (
                f'Clips of one batch need one length and size, but got '
                f'{sorted(shapes)} ({names}); resize them in the pipeline'
            )
            raise ValueError(msg)
        self._check_size(samples)
        objects_per_clip = tuple(sample.masklets.shape[1] for sample in samples)
        if not any(objects_per_clip):
            names = ', '.join(sample.video_name for sample in samples)
            msg = f'No clip of the batch shows an object ({names}); leave them out'
            raise ValueError(msg)
        clips = [
            cast('ClipSample', sample.to(self.device, non_blocking=True))
            for sample in samples
        ]

        def per_object(parts: Sequence[Tensor]) -> Tensor:
            """Repeat the (T, ...) of each clip for its objects, (T, O, ...)."""
            return torch.cat(
                [
                    part[:, None].expand(-1, num_objects, *part.shape[1:])
                    for part, num_objects in zip(parts, objects_per_clip, strict=True)
                ],
                dim=1,
            )

        has_void = any(bool(sample.void.any()) for sample in samples)
        return ClipBatch(
            frames=self.normalise(torch.cat([clip.frames for clip in clips])),
            num_frames=clips[0].frames.shape[0],
            targets=ClipTargets(
                masks=torch.cat([clip.masklets for clip in clips], dim=1),
                void=per_object([clip.void for clip in clips]) if has_void else None,
                annotated=per_object([clip.annotated for clip in clips]),
            ),
            objects_per_clip=objects_per_clip,
            annotated_frames=ClipSample.frames_annotated_in_all(samples),
            seeds=tuple(sample.seed for sample in samples),
        )

    def _check_size(self, samples: Sequence[ClipSample]) -> None:
        """Check that clips have the size at which the model predicts videos."""
        for sample in samples:
            size = tuple(sample.frames.shape[-2:])
            if size != tuple(self.image_size) and not sample.get('is_multi_scale'):
                height, width = self.image_size
                msg = (
                    f'The pipeline makes clips of {size[0]} x {size[1]} '
                    f'({sample.video_name}), but the model works at '
                    f'image_size={tuple(self.image_size)}: give the ClipResize of the '
                    f'pipeline the size {tuple(self.image_size)}, or set both with '
                    f'--cfg-options image_size={height},{width}'
                )
                raise ValueError(msg)

    def normalise(self, frames: Tensor) -> Tensor:
        """Subtract the mean and divide by the standard deviation.

        Args:
            frames: (..., 3, H, W), uint8.
        """
        mean, std = self.mean, self.std
        if mean.dtype.itemsize < torch.float32.itemsize:
            # In a model of half precision the buffers are rounded; these are not.
            mean, std = (
                send_to_device(exact, mean.device) for exact in (self._mean, self._std)
            )
        return match_weights((frames.float() - mean) / std, self.mean)

    def frame(self, frame: NDArray[np.uint8]) -> Tensor:
        """Resize and normalise one frame of a video.

        Args:
            frame: (height, width, 3), RGB.

        Returns:
            (1, 3, H, W), resized as by the released video predictor: bicubic with
            antialiasing, rounded to 8 bits.
        """
        height, width = self.image_size
        if frame.shape[:2] != (height, width):
            resized = Image.fromarray(frame).resize(
                (width, height), Image.Resampling.BICUBIC
            )
            frame = np.asarray(resized)
        pixels = torch.from_numpy(np.ascontiguousarray(frame.transpose(2, 0, 1)))
        return self.normalise(send_to_device(pixels, self.device)[None])

    def point_prompt(self, shares: PointPrompt) -> PointPrompt:
        """Scale points from shares of the image's sides to pixels of the input."""
        height, width = self.image_size
        coords = shares.coords * shares.coords.new_tensor([width, height])
        device = self.mean.device
        return PointPrompt(
            coords=send_to_device(coords, device),
            labels=send_to_device(shares.labels, device),
        )

    def mask_prompt(self, truth: FrameMasks) -> Tensor:
        """Resize the masks of a frame for mask prompts, (O, 1, H, W), bool."""
        masks = torch.from_numpy(truth.masks).to(self.device)[:, None]
        return resize_masks(masks, self.image_size)
