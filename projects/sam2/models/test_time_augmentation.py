"""Test-time augmentation: mirrored and rescaled views of a video are averaged."""

import copy
import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from types import UnionType
from typing import Any

import numpy as np
import torch
from mmengine.model import BaseTTAModel
from mmengine.registry import MODELS
from numpy.typing import NDArray
from torch import Tensor, nn

from ..ops import non_overlapping, upsample_logits
from ..structures import (
    FrameMasks,
    FramePrediction,
    VideoRecord,
    VideoResult,
    VideoSource,
)
from .data_preprocessor import ClipDataPreprocessor
from .prompt_simulator import PromptKind, SAM2PromptSimulator
from .sam2 import SAM2
from .tracking.rounds import (
    ImageView,
    SAM2ImageRounds,
    SAM2PromptRounds,
    collect_predictions,
    track_video,
)

MAX_SCALE = 8  # of it; larger ones are mistakes, and fill the memory


@dataclass(frozen=True, slots=True, kw_only=True)
class MirroredVideo:
    """A video source seen in a mirror."""

    source: VideoSource

    @property
    def name(self) -> str:
        """Name of the video."""
        return self.source.name

    @property
    def num_frames(self) -> int:
        """Number of frames."""
        return self.source.num_frames

    def frame_name(self, frame_index: int) -> str:
        """Stem of the frame's file."""
        return self.source.frame_name(frame_index)

    def read_frame(self, frame_index: int) -> NDArray[np.uint8]:
        """Decode a frame and mirror it: (height, width, 3), RGB."""
        return np.ascontiguousarray(self.source.read_frame(frame_index)[:, ::-1])

    def read_masks(self, frame_index: int) -> FrameMasks | None:
        """Decode the ground truth of a frame and mirror it."""
        truth = self.source.read_masks(frame_index)
        return None if truth is None else mirror_masks(truth)

    def annotated_frames(self) -> tuple[int, ...]:
        """Indices of the frames with ground truth, ascending."""
        return self.source.annotated_frames()


def mirror_masks(truth: FrameMasks) -> FrameMasks:
    """Mirror ground truth from left to right."""
    return replace(
        truth,
        masks=np.ascontiguousarray(truth.masks[..., ::-1]),
        void=None
        if truth.void is None
        else np.ascontiguousarray(truth.void[..., ::-1]),
    )


@MODELS.register_module()
class SAM2TTAModel(BaseTTAModel):
    """Averages the mask probabilities of mirrored and rescaled views.

    A video is tracked in all views at once, each with a memory of its own. Where images
    are validated by rounds of prompts (:class:`SAM2ImageRounds`), the simulated user
    sees the averaged mask and clicks on its errors, in all views alike.

    ``tools/test.py --tta`` wraps the model of a config in its ``tta_model``::

        tta_model = dict(type='SAM2TTAModel', flips=(False, True), scales=(1.0,))

    Args:
        module: Config of a :class:`SAM2`, or the model.
        data_preprocessor: Replaces the one of ``module``, if that is a config.
        flips: Whether the frames are mirrored from left to right.
        scales: Sizes of the input, relative to that of the model; each is rounded to a
            multiple of the model's ``size_divisor``. Each flip is combined with each
            scale.

    Raises:
        ValueError: If there is no view, or a scale is not above 0 or too large.
    """

    module: SAM2

    def __init__(
        self,
        *,
        module: dict[str, Any] | nn.Module,
        data_preprocessor: dict[str, Any] | nn.Module | None = None,
        flips: Sequence[bool] = (False, True),
        scales: Sequence[float] = (1.0,),
    ) -> None:
        super().__init__(module, data_preprocessor)
        if not _is_list_of(flips, bool) or not (
            _is_list_of(scales, int | float)
            and all(0 < scale <= MAX_SCALE for scale in scales)
        ):
            msg = (
                f'flips={flips!r} and scales={scales!r} make no view; give flips such '
                f'as (False, True), and scales above 0, at most {MAX_SCALE}'
            )
            raise ValueError(msg)
        inner: object = self.module
        if not isinstance(inner, SAM2):
            kind = type(inner).__name__
            msg = f'SAM2TTAModel augments a SAM2, but got a {kind}'
            raise ValueError(msg)
        self.flips = tuple(flips)
        self.scales = tuple(map(float, scales))

    @torch.no_grad()
    def test_step(self, data: Sequence[VideoRecord]) -> list[VideoResult]:  # type: ignore[override]  # videos, not a dict
        """Predict videos; the model's accumulators get the averaged masks.

        Raises:
            ValueError: If the prompts of validation cannot be augmented.
        """
        records = self.module.data_preprocessor(data, training=False)['inputs']
        return [
            collect_predictions(
                self.module.accumulators, record, self._predictions(record.source)
            )
            for record in records
        ]

    def merge_preds(  # type: ignore[override]  # frames, as they are tracked
        self, data_samples_list: Sequence[Sequence[tuple[FramePrediction, bool]]]
    ) -> list[FramePrediction]:
        """Average the views of frames.

        Args:
            data_samples_list: For each frame its predictions, each with whether it is
                mirrored.
        """
        return [merge_views(views) for views in data_samples_list]

    def _views(self) -> list[ImageView]:
        """The model at each scale, plain before mirrored."""
        views = []
        for scale in self.scales:
            model = _at_scale(self.module, scale)
            views += [ImageView(model=model, mirrored=flip) for flip in self.flips]
        return views

    def _predictions(self, source: VideoSource) -> Iterator[FramePrediction]:
        simulator = self.module.val_prompt_simulator
        views = self._views()
        if isinstance(simulator, SAM2ImageRounds):
            yield from simulator.run_views(views, source)
            return
        _check_prompts(simulator)
        tracks = [_track(view, simulator, source) for view in views]

        def frame_index(view: tuple[FramePrediction, bool]) -> int:
            return view[0].frame_index

        # Not all views have each frame: a tiny object may vanish when a view is
        # resized, and start one frame later.
        in_order = heapq.merge(*tracks, key=frame_index)
        for _, frame_views in groupby(in_order, key=frame_index):
            yield from self.merge_preds([list(frame_views)])


def _track(
    view: ImageView, simulator: SAM2PromptSimulator, source: VideoSource
) -> Iterator[tuple[FramePrediction, bool]]:
    """Track a video in one view; yield whether it is mirrored with each frame."""
    video = MirroredVideo(source=source) if view.mirrored else source
    for prediction in track_video(view.model, simulator, video):
        yield prediction, view.mirrored


def merge_views(views: Sequence[tuple[FramePrediction, bool]]) -> FramePrediction:
    """Average the mask probabilities of the views of one frame.

    Args:
        views: Predictions, each with whether it is mirrored. The first one gives the
            ground truth, the prompts and, unless it is mirrored, the outputs.
    """
    first, is_mirrored = views[0]
    probs: dict[int, list[Tensor]] = {}
    for prediction, mirrored in views:
        size = (prediction.masks.shape[1], prediction.masks.shape[2])
        logits = torch.cat([out.final.mask_logits for out in prediction.outputs])
        full_probs = upsample_logits(logits.float(), size).sigmoid()
        if mirrored:
            full_probs = full_probs.flip(-1)
        for object_id, prob in zip(prediction.object_ids, full_probs, strict=True):
            probs.setdefault(object_id, []).append(prob)
    means = torch.stack([torch.stack(prob).mean(dim=0) for prob in probs.values()])
    # At the size of the file, (O, 1, height, width); no pixel belongs to two objects.
    full_logits = non_overlapping(means.logit(eps=1e-6))
    truth = first.truth
    return replace(
        first,
        object_ids=tuple(probs),
        masks=(full_logits[:, 0] > 0).cpu().numpy(),
        truth=mirror_masks(truth) if truth is not None and is_mirrored else truth,
        outputs=() if is_mirrored else first.outputs,
        prompted_ids=tuple(dict.fromkeys(i for p, _ in views for i in p.prompted_ids)),
    )


def _is_list_of(values: object, kind: type | UnionType) -> bool:
    return (
        isinstance(values, list | tuple)
        and len(values) > 0
        and all(isinstance(value, kind) for value in values)
    )


def _at_scale(model: SAM2, scale: float) -> SAM2:
    """The model with another input size; it shares the weights."""
    preprocessor = model.data_preprocessor
    step = preprocessor.size_divisor
    height, width = (
        max(round(side * scale / step), 1) * step for side in preprocessor.image_size
    )
    if (height, width) == tuple(preprocessor.image_size):
        return model
    scaled_preprocessor: ClipDataPreprocessor = copy.copy(preprocessor)
    scaled_preprocessor.image_size = (height, width)
    scaled = copy.copy(model)
    scaled._modules = dict(model._modules)  # noqa: SLF001  torch's copy shares the dict
    scaled.data_preprocessor = scaled_preprocessor
    return scaled


def _check_prompts(simulator: SAM2PromptSimulator) -> None:
    """Refuse prompts that differ from view to view."""
    kind = type(simulator).__name__
    if isinstance(simulator, SAM2PromptRounds):
        msg = (
            f'--tta cannot augment {kind}: its user corrects the video of one model. '
            f'Validate with masks (SAM2PromptSimulator, point_probability=0.0), or '
            f'without --tta'
        )
        raise ValueError(msg)
    if simulator.plan(2, step=0).prompts[0] is not PromptKind.MASK:
        msg = (
            f'--tta cannot augment the clicks and boxes of {kind}: they are drawn at '
            f'random, in each view others. Validate with masks '
            f'(model.val_prompt_simulator.point_probability=0.0), or without --tta'
        )
        raise ValueError(msg)
