"""The model as simulated users see it: they look at a frame's own pixels."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from projects.sam2.models.data_preprocessor import ClipDataPreprocessor
from projects.sam2.models.frame_tracking import (
    FrameTask,
    decode_frame,
    recall_memories,
    remember_frame,
)
from projects.sam2.models.mask_heads import MaskHeads
from projects.sam2.models.memory_bank import MemoryQuery, MemoryStore
from projects.sam2.ops import (
    boxes_to_points,
    center_error_points,
    mask_ious,
    masks_to_boxes,
    upsample_logits,
)
from projects.sam2.structures import (
    DecoderStep,
    FrameMasks,
    FramePrompt,
    ImageFeatures,
    PointPrompt,
    RememberedFrame,
)

__all__ = ['FrameTruth', 'PromptedModel']

EARLIER_LOGIT_LIMIT = 32.0  # of masks that a click refines, as in the predictors


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameTruth:
    """What a simulated user knows of a frame.

    Attributes:
        masks: (O, 1, height, width), bool, at the size of the frame's file.
        ignored: Void pixels, (1, 1, height, width), bool, or None.
    """

    masks: Tensor
    ignored: Tensor | None

    @classmethod
    def of(cls, truth: FrameMasks, device: torch.device) -> 'FrameTruth':
        """Take ground truth to the device.

        Args:
            truth: As the data set gives it.
            device: Of the model.

        Returns:
            All its objects.
        """
        void = truth.void
        return cls(
            masks=torch.from_numpy(truth.masks)[:, None].to(device),
            ignored=None
            if void is None
            else torch.from_numpy(void)[None, None].to(device),
        )

    def select(self, positions: slice) -> 'FrameTruth':
        """Some of the objects.

        Args:
            positions: Which.

        Returns:
            Their truth.
        """
        return FrameTruth(masks=self.masks[positions], ignored=self.ignored)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the frame's file."""
        return self.masks.shape[-2], self.masks.shape[-1]

    def boxes(self) -> PointPrompt:
        """The tightest box around each object."""
        return boxes_to_points(masks_to_boxes(self.masks))

    def click(self, shown: Tensor | None) -> PointPrompt:
        """Click in the centre of the largest error.

        Args:
            shown: (O, 1, height, width), bool; None where nothing is shown yet.

        Returns:
            One point for each object, in pixels of the file.
        """
        return center_error_points(self.masks, shown, self.ignored)

    def ious(self, shown: Tensor) -> Tensor:
        """Score masks.

        Args:
            shown: (O, 1, height, width), bool.

        Returns:
            (O,), in [0, 1].
        """
        return mask_ious(shown, self.masks, self.ignored)


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptedModel:
    """The parts of the model that a simulated user works with.

    Attributes:
        heads: Prompt encoder, mask decoder and tracker.
        preprocessor: Prepares frames.
        encode: Gives the features of a frame, (1, 3, H, W).
    """

    heads: MaskHeads
    preprocessor: ClipDataPreprocessor
    encode: Callable[[Tensor], ImageFeatures]

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.preprocessor.mean.device

    def features(self, pixels: NDArray[np.uint8]) -> ImageFeatures:
        """Encode a frame.

        Args:
            pixels: (height, width, 3), RGB.

        Returns:
            Features of the one frame.
        """
        return self.encode(self.preprocessor.frame(pixels))

    def points(self, prompt: PointPrompt, size: tuple[int, int]) -> PointPrompt:
        """Points in pixels of the frame that the model sees.

        Args:
            prompt: In pixels of the file.
            size: Height and width of the file.

        Returns:
            The same points.
        """
        height, width = self.preprocessor.image_size
        shares = prompt.coords / prompt.coords.new_tensor([size[1], size[0]])
        return PointPrompt(
            coords=shares * prompt.coords.new_tensor([width, height]),
            labels=prompt.labels,
        )

    def answer_still(
        self,
        features: ImageFeatures,
        prompt: PointPrompt,
        size: tuple[int, int],
        earlier_logits: Tensor | None = None,
    ) -> Tensor:
        """Answer points on an image.

        Args:
            features: Of the image, one for each object.
            prompt: All points so far, in pixels of the file.
            size: Height and width of the file.
            earlier_logits: The answer before, or None.

        Returns:
            Masks, (O, 1, H4, W4), logits.
        """
        return self.heads.propose(
            embedding=self.heads.tracker.recall(features, None),
            features=features,
            points=self.points(prompt, size),
            earlier_logits=_limited(earlier_logits),
        )

    def annotate(
        self,
        features: ImageFeatures,
        store: MemoryStore,
        query: MemoryQuery,
        truth: FrameTruth,
        *,
        num_clicks: int,
        tracked_logits: Tensor | None = None,
    ) -> RememberedFrame:
        """Click on one object of a frame, each time where its mask is most wrong.

        A mask without any error gets no further click.

        Args:
            features: Of the frame.
            store: Memories of the object; not changed.
            query: The frame.
            truth: Of the object on this frame.
            num_clicks: At most so many.
            tracked_logits: Where the frame was tracked, the mask that was found,
                (1, 1, H4, W4), not free of errors; None for the first frame, which
                attends to no memory.

        Returns:
            One step for each click, and the memory of the last.
        """
        steps: list[DecoderStep] = []
        points: PointPrompt | None = None
        earlier = tracked_logits
        task = FrameTask(query=query)
        for _ in range(num_clicks):
            shown = None if earlier is None else enlarge(earlier, truth.size)
            if shown is not None and not _differ(truth, shown):
                break
            click = truth.click(shown)
            points = click if points is None else points.followed_by(click)
            task = FrameTask(
                query=query,
                prompt=FramePrompt(points=self.points(points, truth.size)),
                attends=tracked_logits is not None,
                reread_prompt=True,
                earlier_logits=_limited(earlier),
            )
            selection = recall_memories(self.heads, store, task)
            steps += decode_frame(self.heads, features, selection, task)
            earlier = steps[-1].mask_logits
        return remember_frame(self.heads, features, tuple(steps), task)


def enlarge(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Masks as a user sees them.

    Args:
        logits: (O, 1, H4, W4).
        size: Height and width of the file.

    Returns:
        (O, 1, height, width), bool.
    """
    return upsample_logits(logits.float(), size) > 0


def _differ(truth: FrameTruth, shown: Tensor) -> bool:
    """Is any pixel wrong?"""
    return bool((truth.ious(shown) < 1).any())


def _limited(logits: Tensor | None) -> Tensor | None:
    """Logits of an earlier answer, in the range in which they are fed back."""
    if logits is None:
        return None
    return logits.clamp(-EARLIER_LOGIT_LIMIT, EARLIER_LOGIT_LIMIT)
