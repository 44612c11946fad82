"""Detect and track as a model of mmdetection, for its datasets, metrics and hooks.

::

    predict ─▶ for each frame: DetectAndTrack.step
                 └─ the detector with its own test pipeline, or the ground truth
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NoReturn

import numpy as np
import torch
from mmcv.transforms import Compose
from mmengine.config import Config
from mmengine.model.utils import revert_sync_batchnorm
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import InstanceData
from numpy.typing import NDArray
from torch import Tensor

from ...apis.inputs import read_number
from ...apis.video_predictor import SAM2VideoPredictor
from ..detection.building import MMDET, DetectorAndSAM2
from ..detection.class_check import check_class_names
from ..detection.detections import Detections, list_classes
from ..detection.detector_configs import (
    build_pipeline,
    classes_of_config,
    read_detector_config,
)
from ..detection.oracle import Oracle, check_oracle, ground_truth
from ..mmcv_operators import ensure_operators
from .association import TrackRules
from .detect_and_track import DetectAndTrack, FrameTracks, Prompts

ensure_operators()  # before mmdet.models is imported

from mmdet.apis import inference_detector  # noqa: E402
from mmdet.models import BaseMOTModel  # noqa: E402
from mmdet.structures import DetDataSample, TrackDataSample  # noqa: E402


@MODELS.register_module()
class SAM2DetectorTracker(DetectorAndSAM2, BaseMOTModel):
    """A detector every few frames, SAM 2 on all of them: :class:`DetectAndTrack`.

    Frames come at their original size, whole videos or, with ``TrackImgSampler``, one
    at a time; the test pipeline only loads them::

        test_pipeline = [
            dict(
                type='TransformBroadcaster',
                transforms=[
                    dict(type='LoadImageFromFile'),
                    dict(type='LoadTrackAnnotations', with_mask=True),
                ],
            ),
            dict(type='PackTrackInputs'),
        ]

    The model is not trained as a whole; train each part by its own config. A checkpoint
    that is loaded into it may be one of the whole, of the detector alone or of a SAM 2
    alone.

    Args:
        detector: Path of a config of mmdetection, or its name, such as ``'rtmdet-s'``
            or ``'mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py'``; or the config of a
            model. None with an oracle.
        sam2: Name or path of a config, such as ``'sam2.1_hiera_tiny'``; a dict with
            this ``config`` and with options of the model that replace those in it; or
            the config of a model (``type='SAM2'``).
        detector_checkpoint: Weights of the detector; None leaves them to a checkpoint
            of the whole.
        sam2_checkpoint: Weights of SAM 2, likewise: a file, or the name of a released
            one that was downloaded.
        detector_pipeline: Test pipeline of the detector; by default the one in its
            config. Needed where ``detector`` is the config of a model.
        detector_classes: Names of its classes, where neither its checkpoint nor its
            config has them.
        classes: Names of the labels that are predicted, those of the dataset; by
            default the classes of the detector. Detections of other classes are
            dropped.
        class_map: Classes of the detector that the dataset names differently, such as
            ``dict(person='pedestrian')``; None drops a class whose name there means
            something else.
        score_thr: Drop detections with a lower score.
        every: See :class:`DetectAndTrack`, like ``prompts``.
        rules: Options of :class:`TrackRules`.
        predictor: Options of :class:`SAM2VideoPredictor`, such as
            ``dict(non_overlap_masks=True)``.
        oracle: Take the boxes (``'boxes'``) or the masks too (``'masks'``) of the
            ground truth in place of a detector's.
        bgr_to_rgb: The pipeline loads frames as BGR, as mmcv does.
        data_preprocessor: By default a ``TrackDataPreprocessor`` that stacks frames.

    Raises:
        CheckpointMismatchError: If weights do not fit their part.
        FileNotFoundError: If a config or a checkpoint is missing.
        ValueError: If there is neither a detector nor an oracle, no class of the
            detector is wanted, or an option is out of range.
    """

    def __init__(
        self,
        *,
        detector: str | Mapping[str, Any] | None,
        sam2: str | Mapping[str, Any],
        detector_checkpoint: str | None = None,
        sam2_checkpoint: str | None = None,
        detector_pipeline: Sequence[dict[str, Any]] | None = None,
        detector_classes: Sequence[str] = (),
        classes: Sequence[str] = (),
        class_map: Mapping[str, str | None] | None = None,
        score_thr: float = 0.3,
        every: int = 4,
        prompts: Prompts = 'boxes',
        rules: Mapping[str, Any] | None = None,
        predictor: Mapping[str, Any] | None = None,
        oracle: Oracle | None = None,
        bgr_to_rgb: bool = True,
        data_preprocessor: Mapping[str, Any] | None = None,
    ) -> None:
        check_oracle(oracle, detector)
        preprocessor = dict(data_preprocessor or {'type': 'TrackDataPreprocessor'})
        with DefaultScope.overwrite_default_scope(MMDET):
            super().__init__(data_preprocessor=preprocessor)
        if oracle is not None:
            detector = None
        self.oracle = oracle
        self.score_thr = read_number(score_thr, name='score_thr', least=0)
        self.bgr_to_rgb = bgr_to_rgb
        names = self.build_parts(
            detector=detector,
            sam2=sam2,
            detector_checkpoint=detector_checkpoint,
            sam2_checkpoint=sam2_checkpoint,
        )
        self.labels: list[int] | None = None  # the ground truth has them already
        if self.detector is not None and detector is not None:
            # Without it, SyncBN of a config for many GPUs stops a CPU.
            self.detector = revert_sync_batchnorm(self.detector)
            self._pipeline, names = _read_config(detector, detector_pipeline, names)
            names = tuple(detector_classes) or names
            if names:
                check_class_names(self.detector, names, remedy='detector_classes')
            self.labels = map_classes(names, tuple(classes), class_map or {})
        self.class_names = tuple(classes) or names
        self.tracker = DetectAndTrack(
            SAM2VideoPredictor(self.sam2, **(predictor or {})),
            self._detect,
            every=every,
            prompts=prompts,
            rules=TrackRules(**(rules or {})),
        )
        self._sample: DetDataSample | None = None
        self._next_frame = 0

    @torch.no_grad()
    def predict(
        self, inputs: Any, data_samples: list[TrackDataSample], **_: Any
    ) -> list[TrackDataSample]:
        """Track the objects of a video, or of its next frames.

        Args:
            inputs: Frames as the pipeline loads them, (1, T, 3, H, W), 0 to 255.
            data_samples: One sample with T frames, each with ``frame_id`` and
                ``ori_shape``. Frame 0 begins a new video.

        Returns:
            The sample; each frame has ``pred_track_instances`` with ``instances_id``,
            ``bboxes``, ``scores``, ``labels`` and ``masks`` at the original size.

        Raises:
            ValueError: If frames are missing, resized or normalised, or there are
                several videos.
        """
        if len(data_samples) != 1:
            msg = f'The batch has {len(data_samples)} videos; set batch_size=1'
            raise ValueError(msg)
        for frame, sample in zip(
            inputs[0], data_samples[0].video_data_samples, strict=True
        ):
            self._begin_frame(sample)
            pixels = _read_frame(frame, sample, bgr_to_rgb=self.bgr_to_rgb)
            self._sample = sample
            try:
                tracks = self.tracker.step(pixels)
            finally:
                self._sample = None
            self._next_frame += 1
            sample.pred_track_instances = _as_instances(tracks)
        return data_samples

    def loss(
        self, inputs: Any, data_samples: list[TrackDataSample], **_: Any
    ) -> NoReturn:
        """Raise, since only the parts are trained."""
        msg = (
            'SAM2DetectorTracker is not trained as a whole: train the detector by its '
            'own config and SAM 2 by one of ours, and give both checkpoints'
        )
        raise NotImplementedError(msg)

    def _begin_frame(self, sample: DetDataSample) -> None:
        """Begin a new video if it is one; otherwise check that no frame is missing."""
        frame_index = int(sample.metainfo['frame_id'])
        if frame_index == 0:
            self.tracker.reset()
            self._next_frame = 0
        if frame_index != self._next_frame:
            msg = (
                f'Frame {frame_index} came where frame {self._next_frame} of the video '
                f"was expected; use sampler=dict(type='TrackImgSampler') or whole "
                f'videos, unshuffled'
            )
            raise ValueError(msg)

    def _detect(self, frame: NDArray[np.uint8]) -> Detections:
        """Run the detector on an RGB frame, or read the ground truth."""
        if self.oracle is not None:
            truth = ground_truth(
                self._sample, self.oracle, loader='LoadTrackAnnotations'
            )
            return Detections.from_instances(truth, self.class_names)
        bgr = np.ascontiguousarray(frame[..., ::-1])
        detector: Any = self.detector
        detector.cfg = None  # inference_detector wants it beside the pipeline
        result: Any = inference_detector(detector, bgr, self._pipeline)
        detections = Detections.from_instances(result.pred_instances, self.class_names)
        detections = detections.select(detections.scores >= self.score_thr)
        if self.labels is None:
            return detections
        table = torch.tensor(self.labels, device=detections.labels.device)
        labels = table[detections.labels]
        return replace(detections, labels=labels).select(labels >= 0)


def map_classes(
    names: Sequence[str],
    wanted: Sequence[str],
    class_map: Mapping[str, str | None],
) -> list[int] | None:
    """Find the label that each class of a detector has in a dataset.

    Args:
        names: Classes of the detector; empty if they are unknown.
        wanted: Classes of the dataset; empty for those of the detector.
        class_map: Classes that the dataset names differently; None drops a class.

    Returns:
        A label for each class, -1 for those that are dropped; None if labels stay.

    Raises:
        ValueError: If no class is wanted, or ``class_map`` names an unknown one.
    """
    unknown = [name for name in class_map if names and name not in names]
    unknown += [name for name in class_map.values() if name and name not in wanted]
    if unknown:
        msg = (
            f'class_map names {unknown[0]!r}, which is not a class; it maps classes of '
            f'the detector ({list_classes(names)}) to some of `classes` '
            f'({list_classes(wanted)})'
        )
        raise ValueError(msg)
    if not names or not wanted:
        return None
    labels = {name: label for label, name in enumerate(wanted)}
    mapped = [labels.get(class_map.get(name, name) or '', -1) for name in names]
    if max(mapped) < 0:
        msg = (
            f'The detector knows none of the classes {list_classes(wanted)}, but '
            f'{list_classes(names)}; name their counterparts in class_map'
        )
        raise ValueError(msg)
    return mapped


def _read_config(
    detector: str | Mapping[str, Any],
    pipeline: Sequence[dict[str, Any]] | None,
    names: tuple[str, ...],
) -> tuple[Compose, tuple[str, ...]]:
    """Build the test pipeline of a detector, and find the names of its classes."""
    with DefaultScope.overwrite_default_scope(MMDET):
        if not isinstance(detector, str):
            if pipeline is None:
                msg = (
                    'detector is the config of a model, which says nothing of its '
                    'images; give its test pipeline as detector_pipeline'
                )
                raise ValueError(msg)
            cfg = Config({'test_dataloader': {'dataset': {'pipeline': [*pipeline]}}})
            return build_pipeline(cfg), names
        cfg = read_detector_config(detector)
        names = names or classes_of_config(cfg)
        if pipeline is not None:
            cfg.test_dataloader.dataset.pipeline = [*pipeline]
        return build_pipeline(cfg), names


def _read_frame(
    frame: Tensor, sample: DetDataSample, *, bgr_to_rgb: bool
) -> NDArray[np.uint8]:
    """Check a frame (3, H, W), and convert it to (height, width, 3), RGB."""
    height, width = sample.metainfo['ori_shape'][:2]
    shape = sample.metainfo.get('img_shape', (height, width))[:2]
    if tuple(shape) != (height, width):
        msg = (
            f'A frame of {height} x {width} was resized to {shape[0]} x {shape[1]}; '
            f'leave Resize out of the pipeline, since the detector and SAM 2 resize '
            f'frames on their own'
        )
        raise ValueError(msg)
    pixels = frame[:, :height, :width].cpu()  # without padding
    numbers = pixels.to(torch.uint8)
    if not torch.equal(numbers.to(pixels.dtype), pixels):
        msg = (
            'The frames are normalised; leave mean and std out of data_preprocessor, '
            'since the detector and SAM 2 normalise frames on their own'
        )
        raise ValueError(msg)
    channels = numbers.flip(0) if bgr_to_rgb else numbers
    return np.ascontiguousarray(channels.permute(1, 2, 0).numpy())


def _as_instances(tracks: FrameTracks) -> InstanceData:
    """Tracks in mmdetection's form."""
    return InstanceData(
        metainfo=None,
        instances_id=torch.tensor(tracks.object_ids, dtype=torch.int64),
        bboxes=tracks.boxes,
        scores=tracks.scores,
        labels=tracks.labels,
        masks=tracks.masks,
    )
