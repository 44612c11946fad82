"""SAM 2: the model that MMEngine's Runner trains, validates and predicts with."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, overload

import torch
from mmengine.logging import MessageHub
from mmengine.model import BaseModel
from mmengine.registry import MODELS, TASK_UTILS
from mmengine.runner import CheckpointLoader
from torch import Tensor

from ..checkpoints import check_weights, fit_adapters, weights_of
from ..structures import (
    ClipBatch,
    FrameOutput,
    ImageFeatures,
    TrackingMode,
    VideoRecord,
    VideoResult,
    low_res_size_at,
)
from .adaptation import frozen_modules
from .compiling import Backend, compile_model
from .data_preprocessor import ClipDataPreprocessor
from .fast import CPUPrecision, set_cpu_precision, use_fast_settings
from .layers import (
    ActivationCheckpointing,
    recompute_activations,
    recompute_norms_and_activations,
    set_activation_checkpointing,
)
from .pretrained import PretrainedModule
from .prompt_simulator import PromptPlan
from .released_names import ReleasedNames, instead_of
from .tracking.clip import (
    ClipPrompts,
    PromptSource,
    losses_in_groups,
    split_objects,
    track_clip,
)
from .tracking.frame import FeatureObserver, SAMHeads
from .tracking.rounds import collect_predictions, predict_video

PartConfig = dict[str, Any]
NUM_HIGH_RES_LEVELS = 2  # strides 4 and 8
# Tracks objects of encoded clips with their prompts, and returns the losses, divided by
# the number of objects.
Score = Callable[[ClipBatch, ImageFeatures, ClipPrompts, Tensor], dict[str, Tensor]]


@MODELS.register_module()
class SAM2(ReleasedNames, PretrainedModule, BaseModel):
    """Promptable segmentation of images and videos (Ravi et al., 2024).

    .. code:: text

        loss(ClipBatch)            training: clips with simulated prompts
          prompt_simulator.plan()    which frames are prompted or corrected
          encode()                   all frames at once:
            image_encoder()            -> image features at strides (4, 8 and) 16
          track_clip()               for each frame of the clip:
            memory_bank.select()       the memories that the frame attends to
            tracker.condition_on_memory()
            prompt_encoder(), mask_decoder()    once, then for each correction click
            tracker.encode_memory()    -> the store of memories
          loss_module()              losses of all frames and all steps

        predict(VideoRecord)       validation: the same for a whole video, its frames
                                   encoded one by one, its masks given to accumulators
        _forward(ClipBatch)        the outputs of clips with the prompts of validation

    Args:
        image_encoder: Config of :class:`SAM2ImageEncoder`.
        tracker: Config of :class:`SAM2Tracker`: memory attention, memory encoder,
            memory bank and object pointers.
        prompt_encoder: Config of :class:`SAM2PromptEncoder`.
        mask_decoder: Config of :class:`SAM2MaskDecoder`.
        prompt_simulator: Config of the prompts in training,
            :class:`SAM2PromptSimulator`.
        val_prompt_simulator: Config of the prompts in validation, which may come in
            rounds (:class:`SAM2PromptRounds`); by default those of training.
        loss: Config of the loss; None for a model that only predicts.
        accumulators: Configs of the objects in ``TASK_UTILS`` that collect the masks
            of a validation video; each adds a field to the video's result.
        data_preprocessor: Config of :class:`ClipDataPreprocessor`.
        adaptations: Configs of :class:`SAM2Freezing` and
            :class:`SAM2LowRankAdapters`, applied in order. Frozen modules stay in eval
            mode.
        activation_checkpointing: Which results the backward pass recomputes to save
            memory. ``False``: none. ``True``: norms, activations and other cheap
            results. A list of parts, such as ``image_encoder.backbone``: these parts
            as well. ``'auto'``: ``True`` on a CPU, ``False`` elsewhere.
            ``SAM2LowMemoryHook`` sets it for a schedule.
        cpu_precision: Type in which a CPU multiplies matrices in prediction,
            ``'float32'`` or ``'bfloat16'``; see :func:`set_cpu_precision`.
        init_cfg: MMEngine's initialisation. ``dict(type='Pretrained', checkpoint=…)``
            loads a released file, a Hugging Face folder or a checkpoint of ours in
            :meth:`init_weights`, for a SAM 2 that is a part of another model; a run of
            SAM 2 itself has ``load_from``.

    Example:
        >>> config = Config.fromfile('configs/sam2_tiny_mose.py')
        >>> model = MODELS.build(config.model)
        >>> batch = model.data_preprocessor(clip_samples, training=True)
        >>> losses = model(**batch, mode='loss')
    """

    def __init__(
        self,
        *,
        image_encoder: PartConfig,
        tracker: PartConfig,
        prompt_encoder: PartConfig,
        mask_decoder: PartConfig,
        prompt_simulator: PartConfig,
        val_prompt_simulator: PartConfig | None = None,
        loss: PartConfig | None = None,
        accumulators: Sequence[PartConfig] = (),
        data_preprocessor: PartConfig | None = None,
        adaptations: Sequence[PartConfig] = (),
        activation_checkpointing: ActivationCheckpointing = 'auto',
        cpu_precision: CPUPrecision = 'float32',
        init_cfg: dict[str, object] | None = None,
    ) -> None:
        super().__init__(
            data_preprocessor=data_preprocessor or {'type': 'ClipDataPreprocessor'},
            init_cfg=init_cfg,
        )
        self.data_preprocessor: ClipDataPreprocessor
        self.image_encoder = MODELS.build(image_encoder)
        self.tracker = MODELS.build(tracker)
        self.prompt_encoder = MODELS.build(prompt_encoder)
        self.mask_decoder = MODELS.build(mask_decoder)
        self.prompt_simulator = MODELS.build(prompt_simulator)
        self.val_prompt_simulator = MODELS.build(
            val_prompt_simulator or prompt_simulator
        )
        # Objects tracked at a time in training, set by SAM2LowMemoryHook; None for all.
        self.objects_at_once: int | None = None
        self.loss_module: Any = None if loss is None else MODELS.build(loss)
        self.accumulators = [TASK_UTILS.build(config) for config in accumulators]
        for config in adaptations:
            TASK_UTILS.build(config).adapt(self)
        recompute_norms_and_activations(self)
        self.set_activation_checkpointing(activation_checkpointing)
        set_cpu_precision(self, cpu_precision)
        self._freeze_modes()

    def _load_pretrained(
        self, checkpoint: str, prefix: str | None = None, map_location: str = 'cpu'
    ) -> None:
        """Load a checkpoint of a whole SAM 2, which may be in a larger model."""
        if prefix is not None:
            msg = (
                f'init_cfg of a SAM 2 has prefix={prefix!r}; leave it out, a SAM 2 is '
                f'found in any checkpoint'
            )
            raise ValueError(msg)
        loaded = CheckpointLoader.load_checkpoint(checkpoint, map_location)
        weights = weights_of(loaded, source=checkpoint)
        fitted = fit_adapters(weights, self.state_dict())
        check_weights(fitted, self, source=checkpoint)
        self.load_state_dict(fitted)

    def __getattr__(self, name: str) -> Any:
        """Look up a part; the error of a released name says what to use instead."""
        try:
            return super().__getattr__(name)
        except AttributeError as error:
            msg = f'{type(self).__name__} has no {name!r}; {instead_of(name)}'
            raise AttributeError(msg) from error

    def train(self, mode: bool = True) -> 'SAM2':
        """Set training mode, except for frozen modules, which stay in eval mode."""
        super().train(mode)
        self._freeze_modes()
        return self

    def _freeze_modes(self) -> None:
        for module in frozen_modules(self):
            if module is self:  # `self.eval` would call `train`, which called this
                super().train(mode=False)
            else:
                module.eval()

    def set_activation_checkpointing(self, setting: ActivationCheckpointing) -> None:
        """Choose what the backward pass recomputes; see the argument of the class."""
        set_activation_checkpointing(self, setting)

    def compile_regions(self, backend: Backend = 'inductor') -> None:
        """Compile the parts with most of the work; see :func:`compile_model`."""
        compile_model(self, backend=backend)

    def use_fast_settings(self) -> None:
        """Predict faster on a CPU; see :func:`~.fast.use_fast_settings`."""
        use_fast_settings(self)

    @property
    def embedding_stride(self) -> int:
        """Pixels of the frame for each cell of the image embedding, along a side."""
        stride: int = self.prompt_encoder.stride
        return stride

    @property
    def low_res_size(self) -> tuple[int, int]:
        """H4 and W4, the size of the decoder's masks at the model's image size."""
        return low_res_size_at(self.data_preprocessor.image_size, self.embedding_stride)

    @property
    def heads(self) -> SAMHeads:
        """Prompt encoder, mask decoder and tracker, which work together on a frame."""
        return SAMHeads(
            prompt_encoder=self.prompt_encoder,
            mask_decoder=self.mask_decoder,
            tracker=self.tracker,
        )

    @overload  # type: ignore[override]  # inputs are clips and videos, not one tensor
    def forward(
        self, inputs: ClipBatch, mode: Literal['loss']
    ) -> dict[str, Tensor]: ...

    @overload
    def forward(
        self, inputs: ClipBatch, mode: Literal['tensor'] = 'tensor'
    ) -> tuple[FrameOutput, ...]: ...

    @overload
    def forward(
        self, inputs: Sequence[VideoRecord], mode: Literal['predict']
    ) -> list[VideoResult]: ...

    def forward(
        self,
        inputs: ClipBatch | Sequence[VideoRecord],
        mode: Literal['loss', 'tensor', 'predict'] = 'tensor',
    ) -> dict[str, Tensor] | tuple[FrameOutput, ...] | list[VideoResult]:
        """Run the model, as MMEngine calls it.

        Args:
            inputs: Clips for ``'loss'`` and ``'tensor'``, records for ``'predict'``.
            mode: ``'loss'`` trains, ``'predict'`` validates on whole videos,
                ``'tensor'`` tracks clips with the prompts of validation.

        Raises:
            ValueError: If the mode does not fit the inputs, or is unknown.
        """
        if isinstance(inputs, ClipBatch):
            if mode == 'loss':
                return self.loss(inputs)
            if mode == 'tensor':
                return self._forward(inputs)
        elif mode == 'predict':
            return [self.predict(record) for record in inputs]
        msg = (
            f'Mode {mode!r} does not take {type(inputs).__name__}: give a ClipBatch '
            f"for 'loss' and 'tensor', a list of VideoRecord for 'predict'"
        )
        raise ValueError(msg)

    def loss(self, batch: ClipBatch) -> dict[str, Tensor]:
        """Track clips with simulated prompts, and compute the loss of all steps.

        Raises:
            ValueError: If the model has no loss.
        """
        if self.loss_module is None:
            msg = 'This model was built without a loss; give `loss` in its config'
            raise ValueError(msg)
        return self._losses_of_clips(batch, self.encode(batch.frames), self._score)

    def _losses_of_clips(
        self, batch: ClipBatch, features: ImageFeatures, score: Score
    ) -> dict[str, Tensor]:
        """Plan the prompts of encoded clips, and score all objects or group by group.

        Args:
            score: Tracks objects and computes their losses, as :meth:`_score` does.
        """
        # The plan must be equal on all ranks and after a resume: it depends on these.
        hub = MessageHub.get_current_instance()
        step, seed = hub.get_info('iter', 0), hub.get_info('seed', 0)
        plan = self.prompt_simulator.plan(batch.num_frames, step, seed)
        plan = plan.where_annotated(batch.annotated_frames)
        num_objects = self.loss_module.count_objects(batch.targets)

        def track_and_score(
            objects: ClipBatch, features: ImageFeatures
        ) -> dict[str, Tensor]:
            prompts = ClipPrompts(self.prompt_simulator, objects, plan)
            return score(objects, features, prompts, num_objects)

        if self.objects_at_once is None:
            return track_and_score(batch, features)
        groups = split_objects(batch, self.objects_at_once)
        parts = (self.tracker, self.prompt_encoder, self.mask_decoder)
        parameters = [parameter for part in parts for parameter in part.parameters()]
        return losses_in_groups(groups, features, parameters, track_and_score)

    def _score(
        self,
        objects: ClipBatch,
        features: ImageFeatures,
        prompts: ClipPrompts,
        num_objects: Tensor,
        observe: FeatureObserver | None = None,
    ) -> dict[str, Tensor]:
        """Track objects in training, and compute the task loss."""
        mode = TrackingMode.TRAINING
        outputs = self._track(objects, features, prompts, mode, observe)
        losses: dict[str, Tensor] = self.loss_module(
            outputs, objects.targets, num_objects=num_objects
        )
        return losses

    def _forward(self, batch: ClipBatch) -> tuple[FrameOutput, ...]:
        """Track clips with the prompts of validation."""
        plan = self.val_prompt_simulator.plan(batch.num_frames, step=0)
        return self.track(batch, plan, TrackingMode.EVALUATION)

    def track(
        self, batch: ClipBatch, plan: PromptPlan, mode: TrackingMode
    ) -> tuple[FrameOutput, ...]:
        """Encode clips and track their objects, prompted as planned.

        Returns:
            The output of each frame, for all objects of the batch.
        """
        plan = plan.where_annotated(batch.annotated_frames)
        training = mode is TrackingMode.TRAINING
        simulator = self.prompt_simulator if training else self.val_prompt_simulator
        prompts = ClipPrompts(simulator, batch, plan)
        return self._track(batch, self.encode(batch.frames), prompts, mode)

    def _track(
        self,
        batch: ClipBatch,
        features: ImageFeatures,
        prompts: PromptSource,
        mode: TrackingMode,
        observe: FeatureObserver | None = None,
    ) -> tuple[FrameOutput, ...]:
        with recompute_activations(self):
            return track_clip(
                self.heads,
                prompts,
                batch=batch,
                features=features,
                mode=mode,
                observe=observe,
            )

    @torch.no_grad()
    def predict(self, record: VideoRecord) -> VideoResult:
        """Track the objects of a video, and give the masks to the accumulators.

        Each object is prompted on the frame where it appears first. If the prompts
        of validation come in rounds, it may be prompted again.
        """
        predictions = predict_video(self, self.val_prompt_simulator, record.source)
        return collect_predictions(self.accumulators, record, predictions)

    def encode(self, frames: Tensor) -> ImageFeatures:
        """Encode frames to the features that tracker and mask decoder read.

        Args:
            frames: (B, 3, H, W), normalised.
        """
        with recompute_activations(self):
            pyramid = self.image_encoder(frames)
        return self.image_features(*pyramid)

    def image_features(self, *pyramid: Tensor) -> ImageFeatures:
        """Prepare the results of the image encoder for tracker and mask decoder.

        Args:
            pyramid: (B, C, H4, W4), (B, C, H8, W8) and (B, C, H16, W16); the first two
                may be left out for a mask decoder without high-resolution features.

        Raises:
            ValueError: If the mask decoder reads levels that are not there.
        """
        *finer, embedding = pyramid
        high_res_8 = high_res_4 = None
        if self.mask_decoder.high_res_projections is not None:
            if len(finer) != NUM_HIGH_RES_LEVELS:
                msg = (
                    f'The mask decoder reads features of strides 4, 8 and 16, but the '
                    f'neck returns {len(pyramid)} levels; set '
                    f'mask_decoder.high_res_features=False'
                )
                raise ValueError(msg)
            stride_4, stride_8 = finer
            high_res_8, high_res_4 = self.mask_decoder.project_high_res(
                stride_8, stride_4
            )
        return ImageFeatures(
            embedding=embedding,
            position=self.tracker.position(embedding),
            high_res_8=high_res_8,
            high_res_4=high_res_4,
            stride=self.embedding_stride,
        )
