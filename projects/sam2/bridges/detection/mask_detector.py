"""SAM 2 on a detector of mmdetection: its boxes become masks.

::

    predict ─▶ predict_boxes ─▶ the detector, or the ground truth
               add_masks     ─▶ original image ─▶ SAM2ImagePredictor, segment_boxes
    loss    ─▶ the detector's losses, if it is trained
               SAM2.loss on the image of the pipeline, a jittered box for each object

SAM 2 predicts on the original image, which the detector's pipeline has resized: it is
read from its file, or kept by ``SAM2KeepImage``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import mmcv
import numpy as np
import torch
from mmengine.fileio import get as read_bytes
from mmengine.model import BaseDataPreprocessor, revert_sync_batchnorm
from mmengine.registry import MODELS, TRANSFORMS, DefaultScope
from numpy.typing import NDArray
from torch import Tensor, nn

from ...apis import SAM2ImagePredictor
from ...apis.image_predictor import preprocess_image
from ...apis.inputs import read_number, read_whole_number
from ...ops import resize_masks
from ...structures import ClipBatch, ClipTargets
from ..mmcv_operators import ensure_operators
from ..samples import mask_array
from .box_prompts import BOXES_PER_BATCH, segment_boxes
from .building import MMDET, DetectorAndSAM2, is_trained
from .oracle import Oracle, check_oracle, ground_truth

ensure_operators()  # before mmdet.models is imported

from mmdet.models import BaseDetector, DetTTAModel  # noqa: E402
from mmdet.structures import DetDataSample  # noqa: E402

# Fields of a sample: the image that SAM2KeepImage kept, and a _TrainingImage.
KEPT_IMAGE = 'sam2_image'
TRAINING_IMAGE = 'sam2_training_image'
BOX_PROMPTS = {
    'type': 'SAM2PromptSimulator',
    'point_probability': 1.0,
    'box_probability': 1.0,
    'num_corrections': 0,
}


@TRANSFORMS.register_module()
class SAM2KeepImage:
    """Keeps the original image for :class:`SAM2MaskDetector`.

    Put it after the transform that loads the image, and ``'sam2_image'`` into the
    ``meta_keys`` of ``PackDetInputs``. Without it the model reads the image again from
    its file, so images that come as arrays need it.
    """

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Add ``sam2_image``, a copy, since later transforms may write to ``img``."""
        results[KEPT_IMAGE] = results['img'].copy()
        return results


@MODELS.register_module()
class SAM2MaskDetector(DetectorAndSAM2, BaseDetector):
    """A detector whose boxes SAM 2 turns into masks.

    Boxes, scores and labels are those of the detector; a box that is empty or outside
    of the image has an empty mask. Masks are those of ``SAM2ImagePredictor`` for the
    original image, ``(N, height, width)``, bool, in ``pred_instances.masks``.

    In training SAM 2 gets the image of the pipeline with all its augmentations, and the
    box of each mask, jittered as in SAM 2's own training. The pipeline needs
    ``LoadAnnotations(with_bbox=True, with_mask=True)``.

    A checkpoint that is loaded into this model may also be one of the detector alone or
    of a SAM 2 alone.

    Args:
        detector: Config of a model of mmdetection; or the path of a config, or its
            name, such as ``'rtmdet-s'`` or
            ``'mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py'``. None with an oracle.
        sam2: Name or path of a config, such as ``'sam2.1_hiera_tiny'``; a dict with
            this ``config`` and with options of the model that replace those in it; or
            the config of a model (``type='SAM2'``).
        detector_checkpoint: Weights of the detector; None leaves them to ``init_cfg``,
            or to a checkpoint of the whole.
        sam2_checkpoint: Weights of SAM 2, likewise: a file, or the name of a released
            one that was downloaded.
        train_detector: Train the detector as well; otherwise it is frozen. What is
            trained of SAM 2 is said by its ``adaptations``.
        oracle: Take the boxes of the ground truth (``'boxes'``), or its masks too
            (``'masks'``), in place of the detector's: the pipeline's annotations must
            be in pixels of the original image, so ``LoadAnnotations`` comes after
            ``Resize``.
        rescore: Rank masks by the score times their estimated IoU
            (``pred_instances.mask_scores``, which mmdetection's metrics use for masks);
            scores of boxes stay.
        score_thr: Drop boxes with a lower score before they are segmented.
        boxes_per_batch: Boxes decoded at once.
        max_num_objects: Objects trained on at most of an image, drawn at random.
        prompt_simulator: Config of the prompts in training; by default a jittered box
            for each object, without correction clicks.
        bgr_to_rgb: The pipeline loads images as BGR, as mmcv does.
        data_preprocessor: Config of the detector's; by default the one in its config.
        init_cfg: As for all models of MMEngine.

    Raises:
        CheckpointMismatchError: If weights do not fit their part.
        FileNotFoundError: If a config or a checkpoint is missing.
        ValueError: If there is neither a detector nor an oracle, or an option is
            invalid.

    Example:
        >>> model = dict(
        ...     type='SAM2MaskDetector',
        ...     detector='mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py',
        ...     detector_checkpoint='checkpoints/rtmdet_tiny.pth',
        ...     sam2='sam2.1_hiera_tiny',
        ...     sam2_checkpoint='checkpoints/sam2.1_hiera_tiny.pt',
        ... )
    """

    def __init__(
        self,
        *,
        detector: str | Mapping[str, Any] | None,
        sam2: str | Mapping[str, Any],
        detector_checkpoint: str | None = None,
        sam2_checkpoint: str | None = None,
        train_detector: bool = False,
        oracle: Oracle | None = None,
        rescore: bool = False,
        score_thr: float = 0.0,
        boxes_per_batch: int = BOXES_PER_BATCH,
        max_num_objects: int = 32,
        prompt_simulator: Mapping[str, Any] | None = None,
        bgr_to_rgb: bool = True,
        data_preprocessor: Mapping[str, Any] | None = None,
        init_cfg: Any = None,
    ) -> None:
        check_oracle(oracle, detector)
        super().__init__(init_cfg=init_cfg)
        class_names = self.build_parts(
            detector=detector,
            sam2=sam2,
            detector_checkpoint=detector_checkpoint,
            sam2_checkpoint=sam2_checkpoint,
            prompt_simulator=prompt_simulator or BOX_PROMPTS,
        )
        if class_names:
            self.dataset_meta = {'classes': class_names}
        preprocessor = getattr(self.detector, 'data_preprocessor', None)
        if data_preprocessor is not None or preprocessor is None:
            with DefaultScope.overwrite_default_scope(MMDET):
                preprocessor = MODELS.build(
                    dict(data_preprocessor or {'type': 'DetDataPreprocessor'})
                )
        self.data_preprocessor = _KeepTrainingImages(
            preprocessor, bgr_to_rgb=bgr_to_rgb
        )
        self.train_detector = train_detector
        if self.detector is not None and not train_detector:
            # Statistics that are frozen need no SyncBN, which DDP refuses on a CPU.
            self.detector = revert_sync_batchnorm(self.detector)
            self.detector.requires_grad_(requires_grad=False)
        self.oracle = oracle
        self.rescore = rescore
        self.score_thr = read_number(score_thr, name='score_thr')
        self.boxes_per_batch = read_whole_number(
            boxes_per_batch, name='boxes_per_batch', least=1
        )
        self.max_num_objects = read_whole_number(
            max_num_objects, name='max_num_objects', least=1
        )
        self.bgr_to_rgb = bgr_to_rgb
        self.train()

    def train(self, mode: bool = True) -> 'SAM2MaskDetector':
        """Set training mode, except for the frozen parts, which stay in eval mode."""
        super().train(mode)
        if self.detector is not None and not self.train_detector:
            self.detector.eval()
        return self

    # ----------------------------------------------------------------- prediction

    @torch.no_grad()
    def predict(
        self, batch_inputs: Tensor, batch_data_samples: list[DetDataSample]
    ) -> list[DetDataSample]:
        """Predict boxes and masks, in pixels of the original images.

        Args:
            batch_inputs: Images as the detector gets them, (B, 3, H, W).
            batch_data_samples: Samples with ``ori_shape``, and with ``img_path`` or the
                image that :class:`SAM2KeepImage` kept.

        Returns:
            The samples with ``pred_instances``.

        Raises:
            ValueError: If there is no original image, or an oracle finds no ground
                truth at its size.
        """
        samples = self.predict_boxes(batch_inputs, batch_data_samples)
        return self.add_masks(samples)

    @torch.no_grad()
    def predict_boxes(
        self, batch_inputs: Tensor, batch_data_samples: list[DetDataSample]
    ) -> list[DetDataSample]:
        """Run the detector, or take the ground truth; see :meth:`predict`.

        Returns:
            The samples with ``bboxes``, ``scores`` and ``labels``; with the oracle of
            masks also with masks.
        """
        if self.oracle is not None:
            for sample in batch_data_samples:
                sample.pred_instances = ground_truth(
                    sample, self.oracle, loader='LoadAnnotations'
                )
            return batch_data_samples
        samples: list[DetDataSample] = self._detector.predict(
            batch_inputs, batch_data_samples
        )
        for sample in samples:
            sample.pred_instances.pop('masks', None)  # of an instance segmenter
        return samples

    @torch.no_grad()
    def add_masks(self, samples: list[DetDataSample]) -> list[DetDataSample]:
        """Segment the boxes of samples on their original images."""
        predictor = SAM2ImagePredictor(self.sam2)
        sample: Any
        for sample in samples:
            image = sample.pop(KEPT_IMAGE, None)
            instances = sample.pred_instances
            instances = instances[instances.scores >= self.score_thr]
            sample.pred_instances = instances
            if 'masks' in instances:
                continue
            if not len(instances):
                instances.masks = torch.zeros(
                    0, *sample.ori_shape[:2], dtype=torch.bool, device=self._device
                )
                continue
            predictor.set_image(
                _original_image(sample, image, bgr_to_rgb=self.bgr_to_rgb)
            )
            segmented = segment_boxes(
                predictor, instances.bboxes, boxes_per_batch=self.boxes_per_batch
            )
            instances.masks = segmented.masks
            if self.rescore:
                instances.mask_scores = instances.scores * segmented.ious
        return samples

    # ------------------------------------------------------------------- training

    def loss(
        self, batch_inputs: Tensor, batch_data_samples: list[DetDataSample]
    ) -> dict[str, Tensor | list[Tensor]]:
        """Compute the losses of the parts that are trained.

        Args:
            batch_inputs: Images as the detector gets them, (B, 3, H, W).
            batch_data_samples: Samples of :attr:`data_preprocessor` in training.

        Returns:
            The detector's losses as ``detector.loss_…``, those of
            :class:`SAM2MultiStepLoss` as ``sam2.loss_…``.

        Raises:
            ValueError: If nothing is trained, or the samples have no masks.
        """
        images = [sample.pop(TRAINING_IMAGE, None) for sample in batch_data_samples]
        losses: dict[str, Tensor | list[Tensor]] = {}
        if self.train_detector:
            if not _has_masks(self._detector):
                # RTMDet, for one, takes masks for those of RTMDet-Ins and fails.
                for sample in batch_data_samples:
                    sample.gt_instances.pop('masks', None)
                    sample.ignored_instances.pop('masks', None)
            of_part = self._detector.loss(batch_inputs, batch_data_samples)
            losses |= {f'detector.{name}': value for name, value in of_part.items()}
        if is_trained(self.sam2):
            of_part = self.sam2.loss(self._clip_batch(images))
            losses |= {f'sam2.{name}': value for name, value in of_part.items()}
        if not losses:
            msg = (
                'Nothing is trained: the detector is frozen, and so is all of SAM 2; '
                'set train_detector=True, or leave parts out of SAM2Freezing'
            )
            raise ValueError(msg)
        return losses

    def _clip_batch(self, images: 'Sequence[_TrainingImage | None]') -> ClipBatch:
        """Images and their objects as clips of one frame."""
        preprocessor = self.sam2.data_preprocessor
        size, device = preprocessor.image_size, preprocessor.mean.device
        frames, masks, voids = [], [], []
        for image in images:
            if image is None:
                msg = (
                    'SAM 2 has no images to train on; prepare the batch by the '
                    'data_preprocessor of this model, as train_step does'
                )
                raise ValueError(msg)
            frames.append(preprocess_image(preprocessor, image.pixels))
            objects = torch.from_numpy(image.masks)
            drawn = torch.randperm(len(objects))[: self.max_num_objects]
            resized = _resize(objects[drawn].to(device), size)
            # A tiny object may vanish; a box around nothing would teach nothing.
            masks.append(resized[resized.flatten(1).any(dim=1)])
            void = _resize(torch.from_numpy(image.void)[None].to(device), size)
            voids.append(void.expand(len(masks[-1]), -1, -1))
        counts = [len(objects) for objects in masks]
        annotated = torch.ones(1, sum(counts), dtype=torch.bool, device=device)
        if not sum(counts):
            # An object that is not annotated has a loss of 0, so that all processes
            # have the same graph.
            counts[0], annotated = 1, annotated.new_zeros(1, 1)
            masks[0] = voids[0] = annotated.new_zeros(1, *size)
        return ClipBatch(
            frames=torch.cat(frames),
            num_frames=1,
            targets=ClipTargets(
                masks=torch.cat(masks)[None],  # (1, O, H, W)
                void=torch.cat(voids)[None],
                annotated=annotated,
            ),
            objects_per_clip=tuple(counts),
            annotated_frames=frozenset({0}),
            seeds=tuple(torch.randint(2**31, (len(counts),)).tolist()),
        )

    # ----------------------------------------- what mmdetection expects of a detector

    def extract_feat(self, batch_inputs: Tensor) -> tuple[Tensor, ...]:
        """Features of the detector."""
        features: tuple[Tensor, ...] = self._detector.extract_feat(batch_inputs)
        return features

    def _forward(
        self,
        batch_inputs: Tensor,
        batch_data_samples: list[DetDataSample] | None = None,
    ) -> Any:
        """Raw outputs of the detector."""
        return self._detector(batch_inputs, batch_data_samples, mode='tensor')

    @property
    def _detector(self) -> Any:
        if self.detector is None:
            msg = (
                f'There is no detector, only the oracle {self.oracle!r}; give the '
                f'config of one as `detector`'
            )
            raise ValueError(msg)
        return self.detector

    @property
    def _device(self) -> torch.device:
        return self.sam2.data_preprocessor.mean.device


@MODELS.register_module()
class SAM2MaskTTAModel(DetTTAModel):
    """Test-time augmentation of a :class:`SAM2MaskDetector`.

    The boxes of the views are merged as ``DetTTAModel`` does; SAM 2 then segments them
    once, on the original image.

    Args:
        tta_cfg: ``nms`` and ``max_per_img``, as for ``DetTTAModel``.
        module: Config of the detector, or the model.
        data_preprocessor: Replaces that of ``module``.
    """

    module: SAM2MaskDetector

    @torch.no_grad()
    def test_step(self, data: dict[str, Any]) -> list[DetDataSample]:  # type: ignore[override]  # of detectors
        """Predict from the views of a batch.

        Args:
            data: ``inputs`` and ``data_samples``, for each view a list over the batch.
        """
        views = []
        for index in range(len(data['inputs'])):
            view = {key: values[index] for key, values in data.items()}
            prepared = self.module.data_preprocessor(view, training=False)
            views.append(
                self.module.predict_boxes(prepared['inputs'], prepared['data_samples'])
            )
        merged = self.merge_preds([list(each) for each in zip(*views, strict=True)])
        return self.module.add_masks(merged)


# ------------------------------------------------------------------------- images


@dataclass(frozen=True, slots=True, kw_only=True)
class _TrainingImage:
    """An image of the training pipeline, before the detector normalises it.

    Attributes:
        pixels: (height, width, 3), uint8, RGB.
        masks: Objects, (O, height, width), bool.
        void: Pixels of crowds, (height, width), bool.
    """

    pixels: NDArray[np.uint8]
    masks: NDArray[np.bool_]
    void: NDArray[np.bool_]


class _KeepTrainingImages(BaseDataPreprocessor):
    """A detector's preprocessor that keeps the training images for SAM 2."""

    def __init__(self, preprocessor: nn.Module, *, bgr_to_rgb: bool) -> None:
        super().__init__()
        self.preprocessor = preprocessor
        self.bgr_to_rgb = bgr_to_rgb

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Prepare a batch; in training, each sample gets its :class:`_TrainingImage`.

        The detector's preprocessor may pad the masks and resize the images, so they
        are taken before.
        """
        images = []
        if training:
            images = [
                _training_image(image, sample, bgr_to_rgb=self.bgr_to_rgb)
                for image, sample in zip(
                    data['inputs'], data['data_samples'], strict=True
                )
            ]
        prepared: dict[str, Any] = self.preprocessor(data, training)
        for sample, image in zip(prepared['data_samples'], images, strict=False):
            sample.set_data({TRAINING_IMAGE: image})
        return prepared


def _training_image(image: Tensor, sample: Any, *, bgr_to_rgb: bool) -> _TrainingImage:
    instances = sample.gt_instances
    if 'masks' not in instances:
        msg = (
            'The samples have no masks to train SAM 2 on; load them by '
            'LoadAnnotations(with_bbox=True, with_mask=True)'
        )
        raise ValueError(msg)
    size = (image.shape[1], image.shape[2])
    ignored = (
        sample.ignored_instances.get('masks') if 'ignored_instances' in sample else None
    )
    void = np.zeros(size, dtype=bool)
    if ignored is not None:
        for mask in mask_array(ignored, size):
            void |= mask
    return _TrainingImage(
        pixels=_to_rgb(image.permute(1, 2, 0).cpu().numpy(), bgr_to_rgb=bgr_to_rgb),
        masks=mask_array(instances.masks, size),
        void=void,
    )


def _original_image(
    sample: Any, kept: NDArray[Any] | None, *, bgr_to_rgb: bool
) -> NDArray[np.uint8]:
    """The image at ``ori_shape`` as RGB: the kept one, or from its file."""
    if kept is not None:
        image = _to_rgb(kept, bgr_to_rgb=bgr_to_rgb)
    elif sample.get('img_path'):
        encoded = read_bytes(sample.img_path)
        image = mmcv.imfrombytes(encoded, channel_order='rgb')
    else:
        msg = (
            'SAM 2 needs the original image, but the sample has neither a file nor a '
            "kept image; put dict(type='SAM2KeepImage') after the transform that loads "
            f'images, and {KEPT_IMAGE!r} into the meta_keys of PackDetInputs'
        )
        raise ValueError(msg)
    if image.shape[:2] != tuple(sample.ori_shape[:2]):
        msg = (
            f'The image {sample.get("img_path")} has the size {image.shape[:2]}, but '
            f'its sample {tuple(sample.ori_shape[:2])}; put '
            f"dict(type='SAM2KeepImage') directly after the transform that loads it"
        )
        raise ValueError(msg)
    return image


def _to_rgb(image: NDArray[Any], *, bgr_to_rgb: bool) -> NDArray[np.uint8]:
    """An image of a pipeline, (height, width[, 1 or 3]), as 8-bit RGB."""
    if image.ndim == 2 or image.shape[2] == 1:
        image = np.repeat(image.reshape(*image.shape[:2], 1), 3, axis=2)
    if image.dtype.kind == 'f':  # of a loader with to_float32, or after augmentation
        image = np.clip(np.rint(image), 0, 255).astype(np.uint8)
    if image.dtype != np.uint8 or image.shape[2] != 3:
        msg = (
            f'SAM 2 takes images of 8 bits with 1 or 3 channels, but the pipeline '
            f"loads {image.dtype} {image.shape}; set LoadImageFromFile's color_type to "
            f"'color'"
        )
        raise ValueError(msg)
    return np.ascontiguousarray(image[..., ::-1] if bgr_to_rgb else image)


def _resize(masks: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize masks (O, height, width) to the input of SAM 2."""
    if not len(masks):
        return masks.new_zeros(0, *size)
    return resize_masks(masks[:, None], size)[:, 0]


def _has_masks(detector: nn.Module) -> bool:
    """Whether a detector predicts masks: it has a mask head or a loss of masks."""
    return any('mask' in name for name, _ in detector.named_modules())
