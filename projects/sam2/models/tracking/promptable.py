"""What predictors and video sessions use of a SAM 2, whatever runs its networks.

:class:`SAM2` is such a model in torch; :class:`~projects.sam2.deployment.ExportedSAM2`
runs exported graphs. Memory bank, session and predictors are the same for both.
"""

from typing import Protocol

import torch
from torch import Tensor

from ...structures import DecoderStep, HighRes, ImageFeatures, PointPrompt, TrackingMode
from ..data_preprocessor import ClipDataPreprocessor
from ..memory_bank import MemoryBank, MemorySelection


class PromptableTracker(Protocol):
    """The memory path; see :class:`SAM2Tracker`."""

    memory_bank: MemoryBank
    non_overlapping_memories: bool
    binary_clicked_memories: bool

    def condition_on_memory(
        self, features: ImageFeatures, selection: MemorySelection | None
    ) -> Tensor:
        """Condition the features of a frame on memories, (O, C, H16, W16)."""

    def encode_memory(
        self, features: ImageFeatures, logits: Tensor, present: Tensor, *, binary: bool
    ) -> Tensor:
        """Encode the masks of a frame as spatial memories, (O, Cm, H16, W16)."""


class PromptableHeads(Protocol):
    """Prompt encoder and mask decoder; see :class:`SAMHeads`."""

    @property
    def tracker(self) -> PromptableTracker:
        """The memory path."""

    def decode(
        self,
        *,
        embedding: Tensor,
        features: ImageFeatures,
        mode: TrackingMode,
        points: PointPrompt | None = None,
        previous_logits: Tensor | None = None,
    ) -> DecoderStep:
        """Decode the masks of a frame of a video."""

    def decode_image(
        self,
        *,
        embedding: Tensor,
        high_res: HighRes,
        points: PointPrompt | None,
        previous_logits: Tensor | None,
        multimask: bool,
    ) -> tuple[Tensor, Tensor]:
        """Decode masks (O, M, H4, W4) of an image, and their estimated IoU (O, M)."""

    def use_mask_as_output(
        self, *, mask: Tensor, features: ImageFeatures, mode: TrackingMode
    ) -> DecoderStep:
        """Take a mask prompt as the mask of the frame."""


class PromptableModel(Protocol):
    """A SAM 2 that encodes images, decodes prompts and tracks objects."""

    @property
    def data_preprocessor(self) -> ClipDataPreprocessor:
        """Resizes and normalises images."""

    @property
    def device(self) -> torch.device:
        """Device of the features."""

    @property
    def embedding_stride(self) -> int:
        """Pixels of the frame for each cell of the image embedding, along a side."""

    @property
    def low_res_size(self) -> tuple[int, int]:
        """H4 and W4, the size of the decoder's masks at the model's image size."""

    @property
    def tracker(self) -> PromptableTracker:
        """The memory path."""

    @property
    def heads(self) -> PromptableHeads:
        """Prompt encoder and mask decoder, with the tracker."""

    def encode(self, frames: Tensor) -> ImageFeatures:
        """Encode normalised frames, (B, 3, H, W)."""
