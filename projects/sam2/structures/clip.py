"""Clips on their way from the loader to the model."""

from dataclasses import dataclass
from typing import cast

import torch
from mmengine.structures import BaseDataElement
from torch import Tensor


class ClipSample(BaseDataElement):
    """One training clip, as the loader gives it.

    Data fields (tensors, all of one frame size):
        frames: (T, 3, H, W), uint8, RGB.
        masklets: (T, O, H, W), bool.
        void: (T, H, W), bool, pixels to be ignored.
        annotated: (T,), bool, False where a frame has no ground truth.
        object_ids: (O,), int64, ids as in the dataset.

    Meta information: ``video_name``, ``frame_indices`` (tuple of int, positions in
    the video), ``sample_index``, ``seed`` (int, of the clip's random clicks),
    ``original_size`` (height, width) and ``is_multi_scale`` (bool, whether the size
    of the frames was drawn from several).
    """

    frames: Tensor
    masklets: Tensor
    void: Tensor
    annotated: Tensor
    object_ids: Tensor
    video_name: str
    frame_indices: tuple[int, ...]
    sample_index: int
    seed: int
    original_size: tuple[int, int]
    is_multi_scale: bool

    def pin_memory(self) -> 'ClipSample':
        """Copy the tensors to page-locked memory; called by the loader.

        Returns:
            A sample with pinned tensors and the same meta information.
        """
        pinned = cast('ClipSample', self.new())
        for name, value in self.items():
            pinned.set_data({name: value.pin_memory()})
        return pinned


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipTargets:
    """Ground truth of a batch of clips at the size that the model sees.

    Attributes:
        masks: (T, O, H, W), bool.
        void: (T, O, H, W), bool, pixels to be ignored; None where there are none.
        annotated: (T, O), bool.
    """

    masks: Tensor
    void: Tensor | None
    annotated: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipBatch:
    """A batch on the device, ready for the model.

    Attributes:
        frames: (B * T, 3, H, W), float, normalised, video-major
            (``video * T + frame``).
        num_frames: T.
        targets: Ground truth.
        video_of_object: (O,), int64, the clip that each object belongs to.
        seeds: One seed of simulated clicks for each clip, length B.
    """

    frames: Tensor
    num_frames: int
    targets: ClipTargets
    video_of_object: Tensor
    seeds: tuple[int, ...]

    def frame_of_object(self, frame_index: int) -> Tensor:
        """Where to find a frame of each object's clip in ``frames``.

        Args:
            frame_index: Position in the clip.

        Returns:
            (O,), int64, indices into the first dimension of ``frames``.
        """
        return torch.add(self.video_of_object * self.num_frames, frame_index)
