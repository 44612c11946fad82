"""SAM 2, assembled and run the way MMEngine's Runner expects."""

from collections.abc import Iterator, Sequence
from typing import Any, Literal, overload

import torch
from mmengine.logging import MessageHub
from mmengine.model import BaseModel
from mmengine.registry import MODELS, TASK_UTILS
from torch import Tensor

from ..ops import match_weights
from ..structures import (
    ClipBatch,
    FrameOutput,
    FramePrediction,
    ImageFeatures,
    RoundObserver,
    TrackingMode,
    VideoRecord,
    VideoResult,
    VideoSource,
)
from .adaptation import frozen_modules
from .data_preprocessor import ClipDataPreprocessor
from .layers import sine_encoding_2d
from .prompt_simulator import PromptPlan
from .released_names import ReleasedNames, instead_of
from .tracking.clip import (
    groups_of_objects,
    losses_in_groups,
    track_clip,
)
from .tracking.frame import SAMHeads
from .tracking.interactive import PromptedModel, SAM2PromptRounds
from .tracking.video import VideoTracker

PartConfig = dict[str, Any]


@MODELS.register_module()
class SAM2(ReleasedNames, BaseModel):
    """Promptable segmentation of images and videos (Ravi et al., 2024).

    Args:
        image_encoder: Config of :class:`SAM2ImageEncoder`.
        tracker: Config of :class:`SAM2Tracker`, the memory path.
        prompt_encoder: Config of :class:`SAM2PromptEncoder`.
        mask_decoder: Config of :class:`SAM2MaskDecoder`.
        prompt_simulator: Config of the prompts in training.
        val_prompt_simulator: Config of the prompts in validation, which may come in
            rounds (:class:`SAM2PromptRounds`); None takes those of training.
        loss: Config of the loss; None for a model that only predicts.
        accumulators: Configs of what is made of the masks of a validation video, in
            ``TASK_UTILS``: each adds one field to the video's result.
        data_preprocessor: Config of :class:`ClipDataPreprocessor`.
        adaptations: Configs of what is trained of it, in ``TASK_UTILS``, applied in
            turn: :class:`SAM2Freezing`, :class:`SAM2LowRankAdapters`. A part of which
            nothing is trained drops nothing at random either.
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
    ) -> None:
        super().__init__(
            data_preprocessor=data_preprocessor or {'type': 'ClipDataPreprocessor'}
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
        self.objects_at_once: int | None = None  # in training; None takes all
        self.loss_module = None if loss is None else MODELS.build(loss)
        self.accumulators = [TASK_UTILS.build(config) for config in accumulators]
        for config in adaptations:
            TASK_UTILS.build(config).adapt(self)
        self._settle_frozen_parts()

    def __getattr__(self, name: str) -> Any:
        """Look up a part; the error of a released name says what to use instead."""
        try:
            return super().__getattr__(name)
        except AttributeError as error:
            msg = f'{type(self).__name__} has no {name!r}; {instead_of(name)}'
            raise AttributeError(msg) from error

    def train(self, mode: bool = True) -> 'SAM2':
        """Switch dropout and the like on or off; it stays off in frozen parts."""
        super().train(mode)
        self._settle_frozen_parts()
        return self

    def _settle_frozen_parts(self) -> None:
        """Have frozen parts compute the same in training as in evaluation."""
        for part in frozen_modules(self):
            if part is self:  # all of it; its own `eval` would come back here
                super().train(mode=False)
            else:
                part.eval()

    @property
    def heads(self) -> SAMHeads:
        """The parts that decode masks, as one."""
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
        """Run the model; MMEngine calls this for training and validation.

        Args:
            inputs: Clips for ``'loss'`` and ``'tensor'``, records for ``'predict'``.
            mode: ``'loss'`` trains, ``'predict'`` validates on whole videos,
                ``'tensor'`` tracks clips with the prompts of validation.

        Raises:
            ValueError: If the mode does not fit the inputs, or is unknown.
        """
        if mode == 'predict' and not isinstance(inputs, ClipBatch):
            return [self.predict(record) for record in inputs]
        if mode == 'loss' and isinstance(inputs, ClipBatch):
            return self.loss(inputs)
        if mode == 'tensor' and isinstance(inputs, ClipBatch):
            plan = self.val_prompt_simulator.plan(inputs.num_frames, step=0)
            return self.track(inputs, plan, TrackingMode.EVALUATION)
        msg = (
            f'Mode {mode!r} does not take {type(inputs).__name__}: give a ClipBatch '
            f"for 'loss' and 'tensor', a list of VideoRecord for 'predict'"
        )
        raise ValueError(msg)

    def loss(self, batch: ClipBatch) -> dict[str, Tensor]:
        """Track clips with simulated prompts and score every step.

        Raises:
            ValueError: If the model has no loss.
        """
        score = self.loss_module
        if score is None:
            msg = 'This model was built without a loss; give `loss` in its config'
            raise ValueError(msg)
        # Equal on all ranks, and the same again after a resume.
        hub = MessageHub.get_current_instance()
        step, seed = (hub.get_info(name, 0) for name in ('iter', 'seed'))
        plan = self.prompt_simulator.plan(batch.num_frames, step, seed)
        features = self.encode(batch.frames)
        # Decided for all objects: groups of them are tracked by one plan.
        plan = plan.where_annotated(batch.targets.annotated)
        count = score.count_objects(batch.targets)

        def losses(some: ClipBatch, features: ImageFeatures) -> dict[str, Tensor]:
            outputs = self._track(some, features, plan, TrackingMode.TRAINING)
            terms: dict[str, Tensor] = score(outputs, some.targets, num_objects=count)
            return terms

        if self.objects_at_once is None:
            return losses(batch, features)
        groups = groups_of_objects(batch, self.objects_at_once)
        parts = (self.tracker, self.prompt_encoder, self.mask_decoder)
        parameters = [one for part in parts for one in part.parameters()]
        return losses_in_groups(groups, features, parameters, losses)

    def track(
        self, batch: ClipBatch, plan: PromptPlan, mode: TrackingMode
    ) -> tuple[FrameOutput, ...]:
        """Track clips as planned; all their frames are encoded at once."""
        plan = plan.where_annotated(batch.targets.annotated)
        return self._track(batch, self.encode(batch.frames), plan, mode)

    def _track(
        self,
        batch: ClipBatch,
        features: ImageFeatures,
        plan: PromptPlan,
        mode: TrackingMode,
    ) -> tuple[FrameOutput, ...]:
        """Track clips whose frames are encoded."""
        training = mode is TrackingMode.TRAINING
        return track_clip(
            self.heads,
            self.prompt_simulator if training else self.val_prompt_simulator,
            batch=batch,
            features=features,
            plan=plan,
            mode=mode,
        )

    @torch.no_grad()
    def predict(self, record: VideoRecord) -> VideoResult:
        """Track the objects of a video, its masks handed on frame by frame.

        Args:
            record: The video; its objects are prompted where they appear first, and
                further where the prompts of validation come in rounds.
        """
        name, index = record.source.name, record.sample_index
        result = VideoResult(metainfo={'sample_index': index, 'video_name': name})
        for accumulator in self.accumulators:
            accumulator.begin(record)
        for prediction in self._predictions(record.source):
            for accumulator in self.accumulators:
                if isinstance(accumulator, RoundObserver):
                    accumulator.add_round(prediction)
                elif prediction.prompt_round.is_final:
                    accumulator.add(prediction)
        for accumulator in self.accumulators:
            accumulator.finish(result)
        return result

    def _predictions(self, source: VideoSource) -> Iterator[FramePrediction]:
        """Track a video, once or as often as its prompts have rounds."""
        simulator = self.val_prompt_simulator
        if isinstance(simulator, SAM2PromptRounds):
            model = PromptedModel(
                heads=self.heads,
                preprocessor=self.data_preprocessor,
                encode=self.encode,
            )
            return simulator.run(model, source)
        tracker = VideoTracker(
            heads=self.heads,
            simulator=simulator,
            preprocessor=self.data_preprocessor,
            encode=self.encode,
        )
        return tracker.track(source)

    def encode(self, frames: Tensor) -> ImageFeatures:
        """Encode frames.

        Args:
            frames: (B, 3, H, W), normalised.
        """
        stride_4, stride_8, stride_16 = self.image_encoder(frames)
        high_res_8, high_res_4 = self.mask_decoder.project_high_res(stride_8, stride_4)
        return ImageFeatures(
            embedding=stride_16,
            position=match_weights(
                sine_encoding_2d(
                    channels=stride_16.shape[1],
                    size=(stride_16.shape[2], stride_16.shape[3]),
                    device=stride_16.device,
                ),
                self.tracker.no_memory_embedding,
            ),
            high_res_8=high_res_8,
            high_res_4=high_res_4,
        )
