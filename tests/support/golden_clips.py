"""The clips and the clicks of the golden training runs."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from golden_cases import golden_weights, unpack_masks
from golden_models import IMAGE_SIZE
from projects.sam2.models import SAM2PromptSimulator
from projects.sam2.models.prompt_simulator import ClickGenerators, PromptKind
from projects.sam2.structures import ClipBatch, ClipTargets, FramePrompt, PointPrompt


def recorded_points(drawn: dict[str, Any]) -> PointPrompt:
    """Points as a golden file holds them."""
    return PointPrompt(
        coords=torch.tensor(drawn['points']),
        labels=torch.tensor(drawn['labels'], dtype=torch.int32),
    )


class RecordedPrompts(SAM2PromptSimulator):
    """Gives the clicks and boxes that the golden run drew.

    It drew the first prompts of all conditioning frames before any correction.
    """

    def __init__(
        self,
        recorded: list[dict[str, Any]],
        num_conditioning_frames: int,
        num_corrections: int,
    ) -> None:
        super().__init__(num_corrections=num_corrections)
        self.first = iter(recorded[:num_conditioning_frames])
        self.later = iter(recorded[num_conditioning_frames:])

    def first_prompt(
        self, kind: PromptKind, truth: Tensor, clicks: ClickGenerators
    ) -> FramePrompt:
        """The recorded first prompt."""
        del clicks
        if kind is PromptKind.MASK:
            return FramePrompt(mask=truth)
        return FramePrompt(points=recorded_points(next(self.first)))

    def correction(
        self,
        truth: Tensor,
        prediction: Tensor,
        clicks: ClickGenerators,
        void: Tensor | None = None,
    ) -> PointPrompt:
        """The recorded correction."""
        del truth, prediction, clicks, void
        return recorded_points(next(self.later))


def golden_batch(setup: Mapping[str, Any], mask_bits: NDArray[np.uint8]) -> ClipBatch:
    """The clips of a golden case.

    Args:
        setup: ``case`` of its json file.
    """
    frames, objects = setup['T'], setup['N']
    videos = setup.get('videos', [0] * objects)  # ascending
    num_videos = max(videos) + 1
    shape = (frames, objects, IMAGE_SIZE, IMAGE_SIZE)
    weights = golden_weights()
    images = torch.from_numpy(
        weights.tensor(
            'train_img',
            (frames, num_videos, 3, IMAGE_SIZE, IMAGE_SIZE),
            setup['salt'],
        )
    )
    return ClipBatch(
        frames=images.transpose(0, 1).flatten(0, 1),  # (T, B, ...) -> (B * T, ...)
        num_frames=frames,
        targets=ClipTargets(
            masks=unpack_masks(mask_bits, shape),
            void=None,
            annotated=torch.ones(frames, objects, dtype=torch.bool),
        ),
        objects_per_clip=tuple(map(videos.count, range(num_videos))),
        annotated_frames=frozenset(range(frames)),
        seeds=tuple(range(num_videos)),
    )
