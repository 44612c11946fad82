"""The training loss of whole validation videos."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS, MODELS, TASK_UTILS
from numpy.typing import NDArray
from torch import Tensor

from ..ops import resize_masks
from ..structures import (
    FrameMasks,
    FrameOutput,
    FramePrediction,
    VideoRecord,
    VideoResult,
)

DECODER_STRIDE = 4


class FrameLoss(Protocol):
    """What the accumulator asks of a loss, :class:`SAM2MultiStepLoss` for one."""

    def frame_losses(
        self,
        output: FrameOutput,
        *,
        masks: Tensor,
        void: Tensor | None,
        annotated: Tensor,
    ) -> dict[str, Tensor]:
        """Weighted terms of a frame, summed over steps and objects.

        Args:
            masks: Ground truth, (O, 1, H, W), bool.
            void: Pixels to leave out, (O, 1, H, W), bool, or None.
            annotated: (O,), bool.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoLosses:
    """Loss of one video.

    Attributes:
        num_objects: Objects that were scored on any frame.
        num_frames: Annotated frames on which any object was scored.
        num_masks: Objects scored, counted once on each frame; what ``sums`` is to
            be divided by.
        sums: Each weighted term, summed over frames, steps and objects.
    """

    num_objects: int
    num_frames: int
    num_masks: int
    sums: Mapping[str, float]


@TASK_UTILS.register_module()
class ClipLossAccumulator:
    """Scores the outputs of a validation video by the training loss.

    The truth is resized to the frame that the model sees. An object counts from the
    frame on which it is prompted, the prompted frame included, as in training; a
    frame without annotation does not count.

    Args:
        loss: Config of the loss, in ``MODELS``; usually that of ``model.loss``.
    """

    def __init__(self, *, loss: Mapping[str, Any]) -> None:
        self.loss: FrameLoss = MODELS.build(dict(loss))
        self._object_ids: set[int] = set()
        self._num_frames = 0
        self._num_masks = 0
        self._sums: dict[str, Tensor] = {}

    def begin(self, record: VideoRecord) -> None:
        """Start a video."""
        self._object_ids = set()
        self._num_frames = 0
        self._num_masks = 0
        self._sums = {}

    @torch.no_grad()
    def add(self, prediction: FramePrediction) -> None:
        """Score a frame.

        Raises:
            ValueError: If the outputs do not hold the objects of the prediction.
        """
        truth = prediction.truth
        if truth is None or not prediction.object_ids:
            return
        for output, object_ids in _groups(prediction):
            terms = self._frame_losses(output, object_ids, truth)
            # Sums stay on the device in double precision: no wait for it, and no
            # rounding that would depend on the length of the video.
            for name, term in terms.items():
                self._sums[name] = self._sums.get(name, 0) + term.double()
        self._num_frames += 1
        self._num_masks += len(prediction.object_ids)
        self._object_ids.update(prediction.object_ids)

    def finish(self, result: VideoResult) -> None:
        """Write the sums of the video.

        Args:
            result: Its field ``losses`` is set, to :class:`VideoLosses`.
        """
        losses = VideoLosses(
            num_objects=len(self._object_ids),
            num_frames=self._num_frames,
            num_masks=self._num_masks,
            sums={name: float(total) for name, total in self._sums.items()},
        )
        result.set_field(losses, 'losses')

    def _frame_losses(
        self, output: FrameOutput, object_ids: Sequence[int], truth: FrameMasks
    ) -> dict[str, Tensor]:
        """Terms of one group of objects."""
        low = output.final.mask_logits
        height, width = (DECODER_STRIDE * side for side in low.shape[-2:])
        size = (height, width)
        masks = torch.from_numpy(_masks_of(object_ids, truth))[:, None].to(low.device)
        void = None
        if truth.void is not None and truth.void.any():
            one = torch.from_numpy(truth.void)[None, None].to(low.device)
            void = resize_masks(one, size).expand(len(object_ids), -1, -1, -1)
        return self.loss.frame_losses(
            output,
            masks=resize_masks(masks, size),
            void=void,
            annotated=torch.ones(len(object_ids), dtype=torch.bool, device=low.device),
        )


@METRICS.register_module()
class ClipLossMetric(BaseMetric):
    """Mean validation loss for one object on one frame, over all videos.

    Reports ``val_loss`` and its terms (``val_loss_mask``, …). Sums of whole videos
    are gathered, each video once, so that the figure is the same whatever the number
    of processes. The model's accumulators must hold a :class:`ClipLossAccumulator`.
    """

    # Without a prefix, MMEngine asks for one in the log; an empty one is none.
    default_prefix = ''

    def __init__(self) -> None:
        # As JFMetric: through the process group, not through a shared folder.
        super().__init__(collect_device='gpu')

    def process(
        self,
        data_batch: Any,
        data_samples: Sequence[Mapping[str, Any]],
    ) -> None:
        """Keep the sums of videos.

        Args:
            data_samples: Results of videos, as the dicts that MMEngine's evaluator
                makes of them.

        Raises:
            ValueError: If a result has no losses.
        """
        for fields in data_samples:
            if 'losses' not in fields:
                msg = (
                    f'{fields["video_name"]}: its result has no losses; add '
                    "dict(type='ClipLossAccumulator', loss=…) to model.accumulators"
                )
                raise ValueError(msg)
            self.results.append((int(fields['sample_index']), fields['losses']))

    def compute_metrics(
        self, results: list[tuple[int, VideoLosses]]
    ) -> dict[str, float]:
        """Average over the objects and frames of all videos.

        Returns:
            ``val_loss`` and its terms; NaN without a single annotated frame.
        """
        # In one order, so that rounding does not depend on who scored what.
        unique = dict(results)
        videos = [unique[sample_index] for sample_index in sorted(unique)]
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


def _groups(
    prediction: FramePrediction,
) -> Iterator[tuple[FrameOutput, tuple[int, ...]]]:
    """Each group's output with the ids of its objects."""
    sizes = [len(output.final.mask_logits) for output in prediction.outputs]
    if sum(sizes) != len(prediction.object_ids):
        msg = (
            f'Frame {prediction.frame_index}: expected outputs of '
            f'{len(prediction.object_ids)} objects, but got groups of {sizes}'
        )
        raise ValueError(msg)
    first = 0
    for output, size in zip(prediction.outputs, sizes, strict=True):
        yield output, prediction.object_ids[first : first + size]
        first += size


def _masks_of(object_ids: Sequence[int], truth: FrameMasks) -> NDArray[np.bool_]:
    """Masks (O, height, width) of objects; empty for one that the frame lacks."""
    masks = np.zeros((len(object_ids), *truth.masks.shape[1:]), dtype=bool)
    positions = {
        object_id: position for position, object_id in enumerate(truth.object_ids)
    }
    for index, object_id in enumerate(object_ids):
        if object_id in positions:
            masks[index] = truth.masks[positions[object_id]]
    return masks
