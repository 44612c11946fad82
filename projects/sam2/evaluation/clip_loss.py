"""The training loss of whole validation videos."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from mmengine.registry import METRICS, MODELS, TASK_UTILS
from torch import Tensor

from ..ops import resize_masks
from ..structures import (
    FrameMasks,
    FrameOutput,
    FramePrediction,
    VideoRecord,
    VideoResult,
)
from .accumulators import output_groups
from .metrics import VideoMetric


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoLosses:
    """Loss of one video.

    Attributes:
        num_objects: Objects that were scored on any frame.
        num_frames: Annotated frames on which any object was scored.
        num_masks: Objects scored, counted once on each frame: the divisor of ``sums``.
        sums: Each weighted term, summed over frames, steps and objects.
    """

    num_objects: int
    num_frames: int
    num_masks: int
    sums: Mapping[str, float]


@TASK_UTILS.register_module()
class ClipLossAccumulator:
    """Applies the training loss to the outputs of a validation video.

    The ground truth is resized to the frame that the model sees. As in training, an
    object counts from the frame on which it is prompted; frames without annotation do
    not count. Sets ``result.losses`` to :class:`VideoLosses`.

    Args:
        loss: Config of the loss, in ``MODELS``; usually that of ``model.loss``. Its
            method ``frame_losses`` is called, see :class:`SAM2MultiStepLoss`.
    """

    def __init__(self, *, loss: Mapping[str, Any]) -> None:
        self.loss = MODELS.build(dict(loss))
        self._reset()

    def _reset(self) -> None:
        self._object_ids: set[int] = set()
        self._num_frames = 0
        self._num_masks = 0
        self._sums: dict[str, Tensor] = {}

    def begin(self, record: VideoRecord) -> None:
        """Start a video."""
        self._reset()

    @torch.no_grad()
    def add(self, prediction: FramePrediction) -> None:
        """Add the losses of a frame.

        Raises:
            ValueError: If the outputs do not hold the objects of the prediction.
        """
        truth = prediction.truth
        if truth is None or not prediction.object_ids:
            return
        sizes = [len(output.final.mask_logits) for output in prediction.outputs]
        if sum(sizes) != len(prediction.object_ids):
            msg = (
                f'Frame {prediction.frame_index}: expected outputs of '
                f'{len(prediction.object_ids)} objects, but got groups of {sizes}'
            )
            raise ValueError(msg)
        for output, object_ids in output_groups(prediction):
            terms = self._frame_losses(
                output, object_ids, truth, prediction.low_res_stride
            )
            for name, term in terms.items():
                # Summed on the device, so that nothing waits for it, and in double
                # precision, so that long videos lose no digits.
                self._sums[name] = self._sums.get(name, 0) + term.double()
        self._num_frames += 1
        self._num_masks += len(prediction.object_ids)
        self._object_ids.update(prediction.object_ids)

    def finish(self, result: VideoResult) -> None:
        """Set ``result.losses``."""
        losses = VideoLosses(
            num_objects=len(self._object_ids),
            num_frames=self._num_frames,
            num_masks=self._num_masks,
            sums={name: float(total) for name, total in self._sums.items()},
        )
        result.set_field(losses, 'losses')

    def _frame_losses(
        self,
        output: FrameOutput,
        object_ids: Sequence[int],
        truth: FrameMasks,
        stride: float,
    ) -> dict[str, Tensor]:
        """Compute the terms for one batch of objects."""
        logits = output.final.mask_logits  # (O, 1, H4, W4)
        size = round(stride * logits.shape[2]), round(stride * logits.shape[3])
        true_masks = dict(zip(truth.object_ids, truth.masks, strict=True))
        empty = np.zeros(truth.masks.shape[1:], dtype=bool)
        masks = np.stack([true_masks.get(i, empty) for i in object_ids])
        void = None
        if truth.void is not None and truth.void.any():
            void = torch.from_numpy(truth.void)[None, None].to(logits.device)
            void = resize_masks(void, size).expand(len(object_ids), -1, -1, -1)
        losses: dict[str, Tensor] = self.loss.frame_losses(
            output,
            masks=resize_masks(
                torch.from_numpy(masks)[:, None].to(logits.device), size
            ),
            void=void,
            annotated=torch.ones(
                len(object_ids), dtype=torch.bool, device=logits.device
            ),
        )
        return losses


@METRICS.register_module()
class ClipLossMetric(VideoMetric):
    """Mean validation loss of one object on one frame, over all videos.

    Reports ``val_loss`` and its terms (``val_loss_mask``, …); only ``val_loss``, NaN,
    where no frame is annotated. The model needs a :class:`ClipLossAccumulator`.
    """

    field = 'losses'
    accumulator = "dict(type='ClipLossAccumulator', loss=…)"

    def average(self, videos: list[VideoLosses]) -> dict[str, float]:
        """Average over the objects and frames of all videos."""
        num_masks = sum(losses.num_masks for losses in videos)
        if not num_masks:
            return {'val_loss': float('nan')}
        names = sorted({name for losses in videos for name in losses.sums})
        terms = {
            f'val_{name}': sum(losses.sums.get(name, 0.0) for losses in videos)
            / num_masks
            for name in names
        }
        return {'val_loss': sum(terms.values()), **terms}
