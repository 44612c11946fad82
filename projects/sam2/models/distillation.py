"""Distillation: a SAM 2 that also learns the features of a larger one, its teacher."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.registry import MODELS
from torch import Tensor, nn
from torch.nn import functional

from ..installation import near_configs, own_config
from ..ops import resize_masks
from ..structures import ClipBatch, ClipTargets, ImageFeatures, TrackingMode
from .adaptation import match_names
from .compiling import Backend
from .sam2 import SAM2, PartConfig
from .tracking.clip import ClipPrompts, RepeatedPrompts, track_clip

# EdgeTAM (Zhou et al., 2025) weighs both features like the task.
FEATURE_LOSSES: tuple[PartConfig, ...] = (
    {'type': 'SAM2FeatureLoss', 'feature': 'image'},
    {'type': 'SAM2FeatureLoss', 'feature': 'memory'},
)
TRAINING_PARTS = 'training_parts'  # name of the module


@MODELS.register_module()
class SAM2Distillation(SAM2):
    """A SAM 2 that is trained with a teacher (Hinton et al., 2015).

    It is the student: its parts, weights and predictions are those of :class:`SAM2`,
    and so are its checkpoints. Only :meth:`loss` needs the teacher:

    .. code:: text

        loss(ClipBatch)
          encode(), track_clip()          the student, with simulated prompts
          loss_module()                   the task loss of SAM 2
          teacher.encode()                the same frames
          teacher.track_clip()            the same prompts and correction clicks, with
                                          the teacher's own masks and memories
          feature_losses                  image embeddings, and the outputs of memory
                                          attention for each object and frame

    Frames that attend to no memory have no memory loss: there, memory attention does
    not run. If the models differ in image size or normalisation, the teacher sees the
    student's frames, masks and clicks resized.

    A frozen teacher is built when training needs it, on the student's device. It is no
    submodule, so it is in no state dict, optimizer, EMA or gradient bucket.
    ``SAM2DistillationHook`` keeps what a run must not lose when it resumes: projections
    of the feature losses, and a teacher that is trained.

    Args:
        teacher: Config of a :class:`SAM2`; or the name or path of a config file.
        teacher_checkpoint: Weights of the teacher; by default the ``init_cfg`` in its
            config.
        train_teacher: Train the teacher with a task loss of its own. No gradient flows
            to it from the feature losses.
        feature_losses: Configs of :class:`SAM2FeatureLoss`; by default the image and
            the memory features, both with weight 1. Without any, the teacher is not
            run.
        init_from_teacher: Names of parts or parameters that start with the teacher's
            weights, such as ``mask_decoder``, with ``*`` for any characters.
            Checkpoints that are loaded afterwards replace them.
        student: The arguments of :class:`SAM2`.

    Raises:
        FileNotFoundError: Before training, if there is no config of the name
            ``teacher``, or no checkpoint.
        ValueError: If there are several losses of a feature; before training, if a
            frozen teacher has no weights, or others than its config says, or lacks a
            part of ``init_from_teacher``.
        TypeError: Before training, if the teacher is no :class:`SAM2`.

    Example:
        >>> config = Config.fromfile('configs/sam2_tiny_mose.py')
        >>> config.model.update(
        ...     type='SAM2Distillation',
        ...     teacher='_base_/models/sam2_1_large.py',
        ...     teacher_checkpoint='checkpoints/sam2.1_hiera_large.pt',
        ... )
        >>> model = MODELS.build(config.model)
    """

    def __init__(
        self,
        *,
        teacher: PartConfig | str,
        teacher_checkpoint: str | None = None,
        train_teacher: bool = False,
        feature_losses: Sequence[PartConfig] = FEATURE_LOSSES,
        init_from_teacher: Sequence[str] = (),
        **student: Any,
    ) -> None:
        super().__init__(**student)
        self._teacher_config = teacher, teacher_checkpoint
        losses = {part.feature: part for part in map(MODELS.build, feature_losses)}
        if len(losses) < len(feature_losses):
            msg = (
                f'There are {len(feature_losses)} feature_losses of '
                f'{", ".join(losses)}; give at most one of each feature'
            )
            raise ValueError(msg)
        self.init_from_teacher = tuple(init_from_teacher)
        self.training_parts = TrainingParts({'losses': nn.ModuleDict(losses)})
        self._frozen_teacher = _Unregistered()
        if train_teacher:
            self.training_parts['teacher'] = _build_teacher(*self._teacher_config)

    @property
    def teacher(self) -> SAM2:
        """The teacher; a frozen one is built at the first call."""
        if 'teacher' in self.training_parts:
            return cast('SAM2', self.training_parts['teacher'])
        weight = next(self.parameters())
        if self._frozen_teacher.model is None:
            # The student's random numbers are those of a run without a teacher.
            with torch.random.fork_rng(devices=[]):
                model = _build_teacher(*self._teacher_config)
                if not model.init_cfg:
                    msg = (
                        'The teacher has no weights; name its checkpoint, '
                        'model.teacher_checkpoint'
                    )
                    raise ValueError(msg)
                model.init_weights()
            self._frozen_teacher.model = model.requires_grad_(False).eval()
            _log_teacher(model)
        teacher = self._frozen_teacher.model
        own = next(teacher.parameters())
        if (own.device, own.dtype) != (weight.device, weight.dtype):
            teacher.to(device=weight.device, dtype=weight.dtype)
        return teacher

    @property
    def feature_losses(self) -> nn.ModuleDict:
        """The :class:`SAM2FeatureLoss` of each feature, by its name."""
        return cast('nn.ModuleDict', self.training_parts['losses'])

    def init_weights(self) -> None:
        """Initialise the student, and load the teacher before the first step."""
        super().init_weights()
        if 'teacher' in self.training_parts:
            self.teacher.init_weights()
        elif self.feature_losses:
            _ = self.teacher  # a wrong checkpoint is noticed here
        if self.init_from_teacher:
            self._copy_from_teacher()

    @torch.no_grad()
    def _copy_from_teacher(self) -> None:
        """Copy the weights of parts that both models have.

        Raises:
            ValueError: If a name fits no weight, or the teacher's has another shape.
        """
        own, theirs = self.state_dict(), self.teacher.state_dict()
        names = match_names(own, self.init_from_teacher)
        other = [
            name
            for name in sorted(names)
            if name not in theirs or theirs[name].shape != own[name].shape
        ]
        if other:
            msg = (
                f'init_from_teacher: the teacher has no {other[0]} of shape '
                f'{tuple(own[other[0]].shape)} (and {len(other) - 1} more); name '
                f'parts that both models have'
            )
            raise ValueError(msg)
        for name in names:
            own[name].copy_(theirs[name])

    def compile_regions(self, backend: Backend = 'inductor') -> None:
        """Compile the student and its teacher; see :meth:`SAM2.compile_regions`."""
        super().compile_regions(backend)
        if self._frozen_teacher.model is not None:
            self._frozen_teacher.model.compile_regions(backend)

    def training_state(self) -> dict[str, dict[str, Tensor]]:
        """Weights that a run needs to resume, and that are not the student's."""
        return {name: part.state_dict() for name, part in self.training_parts.items()}

    def load_training_state(self, state: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Load what :meth:`training_state` returned."""
        for name, weights in state.items():
            self.training_parts[name].load_state_dict(weights)

    def loss(self, batch: ClipBatch) -> dict[str, Tensor]:
        """Compute the task loss, and the losses of the features.

        Returns:
            The terms of the task loss; ``loss_image_features`` and
            ``loss_memory_features``, where there is such a feature loss; and the task
            loss of a teacher that is trained, such as ``teacher_loss_mask``.
        """
        losses = self.feature_losses
        if self.loss_module is None or not losses:
            return super().loss(batch)
        teacher = self.teacher
        teacher_batch = replace(batch, frames=self._frames_for(teacher, batch.frames))
        terms = self._teacher_losses(teacher_batch)
        features = self.encode(batch.frames)
        with _evaluating(teacher):
            teacher_features = teacher.encode(teacher_batch.frames)
        if 'image' in losses:
            image_loss = losses['image'](features.embedding, teacher_features.embedding)
            terms['loss_image_features'] = image_loss
        if 'memory' not in losses:
            return terms | self._losses_of_clips(batch, features, self._score)
        num_objects_of_step = batch.targets.masks.shape[1]

        def score(
            objects: ClipBatch,
            features: ImageFeatures,
            prompts: ClipPrompts,
            num_objects: Tensor,
        ) -> dict[str, Tensor]:
            student_outputs: dict[int, Tensor] = {}
            task = self._score(
                objects, features, prompts, num_objects, student_outputs.__setitem__
            )
            repeated = RepeatedPrompts(
                prompts, size=_size(teacher_batch.frames), from_size=_size(batch.frames)
            )
            loss = self._memory_loss(
                objects, teacher_features, repeated, student_outputs
            )
            share = objects.targets.masks.shape[1] / num_objects_of_step
            return task | {'loss_memory_features': share * loss}

        return terms | self._losses_of_clips(batch, features, score)

    def _memory_loss(
        self,
        objects: ClipBatch,
        teacher_features: ImageFeatures,
        prompts: RepeatedPrompts,
        student_outputs: Mapping[int, Tensor],
    ) -> Tensor:
        """Let the teacher track the same objects, and compare the features.

        Args:
            teacher_features: The teacher's features of all frames.
            student_outputs: The student's outputs of memory attention by frame, each
                (O, C, H16, W16).
        """
        if not student_outputs:  # clips of one frame
            return torch.zeros((), device=objects.frames.device)
        teacher = self.teacher
        teacher_outputs: dict[int, Tensor] = {}
        with _evaluating(teacher):
            track_clip(
                teacher.heads,
                prompts,
                batch=objects,
                features=teacher_features,
                mode=TrackingMode.TRAINING,
                observe=teacher_outputs.__setitem__,
            )
        loss: Tensor = self.feature_losses['memory'](
            torch.cat([*student_outputs.values()]),  # (O * frames, C, h, w)
            torch.cat([teacher_outputs[frame] for frame in student_outputs]),
        )
        return loss

    def _teacher_losses(self, teacher_batch: ClipBatch) -> dict[str, Tensor]:
        """Task loss of a teacher that is trained."""
        if 'teacher' not in self.training_parts:
            return {}
        size, targets = _size(teacher_batch.frames), teacher_batch.targets
        resized = ClipTargets(
            masks=resize_masks(targets.masks, size),
            void=None if targets.void is None else resize_masks(targets.void, size),
            annotated=targets.annotated,
        )
        teacher = self.teacher
        teacher.objects_at_once = self.objects_at_once
        terms = teacher.loss(replace(teacher_batch, targets=resized))
        return {f'teacher_{name}': term for name, term in terms.items()}

    def _frames_for(self, teacher: SAM2, frames: Tensor) -> Tensor:
        """Resize and normalise the student's frames for the teacher."""
        ours, theirs = self.data_preprocessor, teacher.data_preprocessor
        # Exactly the student's frames if both normalise alike: times 1, plus 0.
        frames = frames * (ours.std / theirs.std)
        frames = frames + (ours.mean - theirs.mean) / theirs.std
        own_size, size = tuple(ours.image_size), tuple(theirs.image_size)
        if _size(frames) != own_size:  # of clips of several sizes
            multiple = theirs.size_divisor
            size = tuple(
                multiple * max(round(side * their / our / multiple), 1)
                for side, our, their in zip(_size(frames), own_size, size, strict=True)
            )
        if size == _size(frames):
            return frames
        return functional.interpolate(
            frames, size=size, mode='bilinear', align_corners=False, antialias=True
        )


class TrainingParts(nn.ModuleDict):
    """Modules that training needs, and that a model's checkpoints do not contain."""

    def __init__(self, modules: Mapping[str, nn.Module]) -> None:
        super().__init__(modules)
        # MMEngine saves and loads weights module by module, but calls these as well.
        self.register_state_dict_post_hook(_drop_weights)  # type: ignore[no-untyped-call]  # torch
        self.register_load_state_dict_post_hook(_miss_no_weights)  # type: ignore[no-untyped-call]  # torch


def _drop_weights(
    parts: nn.Module, state: dict[str, Tensor], prefix: str, metadata: object
) -> None:
    del parts, metadata
    for key in [key for key in state if key.startswith(prefix)]:
        del state[key]


def _miss_no_weights(parts: nn.Module, keys: Any) -> None:
    del parts
    missing = [key for key in keys.missing_keys if f'{TRAINING_PARTS}.' not in key]
    keys.missing_keys[:] = missing


class _Unregistered:
    """Holds a model for its owner, which neither registers, copies nor saves it."""

    model: SAM2 | None = None

    def __deepcopy__(self, _: dict[int, object]) -> '_Unregistered':
        return self


@contextmanager
def _evaluating(teacher: SAM2) -> Iterator[None]:
    """Run a teacher without dropout and without a graph."""
    was_training = teacher.training
    teacher.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        teacher.train(was_training)


def _size(frames: Tensor) -> tuple[int, int]:
    height, width = frames.shape[-2:]
    return height, width


def _build_teacher(teacher: PartConfig | str, checkpoint: str | None) -> SAM2:
    """Build a teacher, whose weights :meth:`SAM2.init_weights` will load."""
    config = _read_config(teacher) if isinstance(teacher, str) else dict(teacher)
    if checkpoint is not None:
        config['init_cfg'] = {'type': 'Pretrained', 'checkpoint': checkpoint}
    model = MODELS.build(config)
    if not isinstance(model, SAM2):
        msg = f'The teacher is a {type(model).__name__}; give the config of a SAM2'
        raise TypeError(msg)
    return model


def _log_teacher(teacher: SAM2) -> None:
    millions = sum(weight.numel() for weight in teacher.parameters()) / 1e6
    print_log(
        f'Teacher: {type(teacher).__name__}, {millions:.1f} million parameters, '
        f'{teacher.init_cfg}',
        logger='current',
    )


def _read_config(teacher: str) -> PartConfig:
    """Read the model of a config, given by name or path."""
    path = Path(teacher)
    path = path if path.is_file() else own_config(teacher) or path
    if not path.is_file():
        near = near_configs(teacher)
        hint = f'; did you mean {" or ".join(near)}?' if near else ''
        msg = (
            f'There is no config {teacher!r} of a teacher, neither as a file nor '
            f'among those of this package{hint}'
        )
        raise FileNotFoundError(msg)
    config = Config.fromfile(path)
    if 'model' not in config:
        msg = f'{path} has no `model`; name the config of a teacher that has one'
        raise ValueError(msg)
    model: PartConfig = config.model.to_dict()
    return model
