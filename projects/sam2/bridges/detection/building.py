"""Builds and loads the two parts of a model: a detector of mmdetection, and SAM 2."""

import copy
import re
from collections.abc import Mapping
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.model import BaseModel
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import CheckpointLoader
from torch import Tensor, nn

from ...apis import build_sam2
from ...apis.building import load_model_config
from ...checkpoints import (
    CheckpointMismatchError,
    fit_adapters,
    list_keys,
    reading,  # noqa: F401  replaces MMEngine's readers
    weights_below,
)
from ...models import SAM2
from ..mmcv_operators import ensure_operators
from .detections import classes_of_checkpoint
from .detector_configs import read_detector_config
from .language_models import use_local_language_model

MMDET = 'mmdet'
MISSHAPEN = re.compile(r'size mismatch for (\S+):')  # in torch's error
# A part of DINO and GroundingDINO that converted checkpoints lack.
TRAINING_ONLY = 'dn_query_generator.'
DETECTOR_PART = 'detector.'
NAMES = {'detector': 'the detector', 'sam2': 'SAM 2'}  # of the parts, in errors


def build_detector(
    detector: str | Mapping[str, Any], checkpoint: str | None = None
) -> tuple[nn.Module, tuple[str, ...]]:
    """Build a detector of mmdetection and load its weights.

    Args:
        detector: Config of the model; or the path of a config or its name, see
            :func:`read_detector_config`.
        checkpoint: Weights of the detector, or of a model with a part ``detector``;
            None leaves them random.

    Returns:
        The detector, and the names of its classes as its checkpoint has them, which may
        be empty.

    Raises:
        CheckpointMismatchError: If the weights do not fit the detector.
        FileNotFoundError: If the config, the checkpoint, or the language model of a
            detector that has one is missing.
        ImportError: If transformers is missing, for such a detector.
        ValueError: If the config has no model.
    """
    ensure_operators()  # before mmdet.models is imported
    scope = DefaultScope.get_current_instance()
    name = (
        MMDET if scope is None or scope.scope_name == 'mmengine' else scope.scope_name
    )
    if isinstance(detector, Mapping):
        model_cfg = copy.deepcopy(ConfigDict(detector))
    else:
        cfg = read_detector_config(detector)
        model_cfg, name = cfg.model, cfg.get('default_scope', name)
    use_local_language_model(model_cfg)
    with DefaultScope.overwrite_default_scope(name):
        model: nn.Module = MODELS.build(model_cfg)
    if checkpoint is None:
        return model, ()
    return model, load_detector(model, checkpoint)


def load_detector(model: nn.Module, checkpoint: str) -> tuple[str, ...]:
    """Load the weights of a detector, and return the names of its classes.

    Raises:
        CheckpointMismatchError: If a weight is missing or of another shape.
        FileNotFoundError: If there is no such file.
    """
    loaded = CheckpointLoader.load_checkpoint(checkpoint, 'cpu', logger='silent')
    weights = loaded.get('state_dict', loaded)
    if not isinstance(weights, Mapping):
        msg = (
            f'{checkpoint} holds a {type(weights).__name__} as state_dict; give a file '
            f'with the weights by their names'
        )
        raise CheckpointMismatchError(msg)
    state = {
        key.removeprefix('module.'): value
        for key, value in weights.items()
        if isinstance(value, Tensor)
    }
    if any(key.startswith(DETECTOR_PART) for key in state):
        state = weights_below(DETECTOR_PART, state)
    load_part(state, model, part=NAMES['detector'], source=checkpoint)
    return classes_of_checkpoint(loaded)


def build_sam2_part(
    sam2: str | Mapping[str, Any],
    checkpoint: str | None,
    *,
    prompt_simulator: Mapping[str, Any] | None = None,
) -> SAM2:
    """Build the SAM 2 of a detector.

    Args:
        sam2: Name or path of a config; or a dict with this ``config`` and with options
            of the model that replace those in it; or the config of a model.
        checkpoint: As for :func:`build_sam2`.
        prompt_simulator: Config of the prompts in training; None keeps the config's.

    Raises:
        CheckpointMismatchError: If the weights are of another version or size.
        FileNotFoundError: If the config or the checkpoint is missing.
        ValueError: If there is no model in the config.
    """
    options = {'config': sam2} if isinstance(sam2, str) else dict(sam2)
    if 'config' in options:
        cfg = copy.deepcopy(load_model_config(options.pop('config')))
        cfg.merge_from_dict({'model': options})
    elif 'type' in options:
        cfg = Config({'model': options})
    else:
        msg = (
            f'sam2 has neither `type` nor `config`, but {sorted(options)}; give '
            f"dict(config='sam2.1_hiera_tiny'), or the config of a model"
        )
        raise ValueError(msg)
    if prompt_simulator is not None:
        cfg.model.prompt_simulator = prompt_simulator
    if checkpoint is None:
        model: SAM2 = MODELS.build(cfg.model)
        return model
    return build_sam2(cfg, checkpoint, device='cpu', mode='train')


def load_part(
    state: Mapping[str, Tensor], model: nn.Module, *, part: str, source: str
) -> None:
    """Load the weights of a part, and check that it has all of its parameters.

    MMEngine would log what does not fit and go on. What the part does not have is
    ignored, as MMEngine does.

    Args:
        part: What the model is, for the error.
        source: Where the weights come from, for the error.

    Raises:
        CheckpointMismatchError: If a parameter is missing or of another shape.
    """
    try:
        # Modules may rename the weights of older versions, so ask which were missing.
        missing = model.load_state_dict(dict(state), strict=False).missing_keys
    except RuntimeError as error:
        problem, names = 'weights have another shape', MISSHAPEN.findall(str(error))
        if not names:
            raise
    else:
        parameters = dict(model.named_parameters())
        problem = 'weights are missing'
        names = [
            key for key in missing if key in parameters and TRAINING_ONLY not in key
        ]
    if names:
        msg = (
            f'{source} does not fit {part}: {list_keys(problem, names)}; give the '
            f'checkpoint that belongs to its config and number of classes'
        )
        raise CheckpointMismatchError(msg)


class DetectorAndSAM2(BaseModel):
    """Base of models with a detector and a SAM 2, each from its own checkpoint.

    A checkpoint that is loaded into such a model may be one of the whole, of the
    detector alone, or of a SAM 2 alone.

    Attributes:
        detector: A detector of mmdetection; None with an oracle.
        sam2: The SAM 2.
        random_parts: Names of the parts whose weights are random so far.
    """

    detector: nn.Module | None
    sam2: SAM2
    random_parts: set[str]

    def build_parts(
        self,
        *,
        detector: str | Mapping[str, Any] | None,
        sam2: str | Mapping[str, Any],
        detector_checkpoint: str | None,
        sam2_checkpoint: str | None,
        prompt_simulator: Mapping[str, Any] | None = None,
    ) -> tuple[str, ...]:
        """Build both parts, see :func:`build_detector` and :func:`build_sam2_part`.

        Returns:
            Names of the detector's classes as its checkpoint has them.
        """
        self.detector = None
        class_names: tuple[str, ...] = ()
        if detector is not None:
            self.detector, class_names = build_detector(detector, detector_checkpoint)
        self.sam2 = build_sam2_part(
            sam2, sam2_checkpoint, prompt_simulator=prompt_simulator
        )
        checkpoints = {'detector': detector_checkpoint, 'sam2': sam2_checkpoint}
        self.random_parts = {
            name
            for name, checkpoint in checkpoints.items()
            if checkpoint is None and getattr(self, name) is not None
        }
        self.register_load_state_dict_pre_hook(_fit_to_parts)  # type: ignore[no-untyped-call]  # torch
        return class_names

    def init_weights(self) -> None:
        """Initialise the parts that have no checkpoint, but no frozen detector.

        Its weights have to come from a checkpoint, which is loaded after this.
        """
        frozen = set()
        if self.detector is not None and not is_trained(self.detector):
            frozen.add('detector')
        for name in sorted(self.random_parts - frozen):
            getattr(self, name).init_weights()
        self.random_parts &= frozen


def is_trained(model: nn.Module) -> bool:
    """Whether any parameter is trained."""
    return any(parameter.requires_grad for parameter in model.parameters())


def _fit_to_parts(
    model: DetectorAndSAM2, state: dict[str, Tensor], prefix: str, *_: object
) -> None:
    """Fit a checkpoint to a model's parts; a pre-hook of loading.

    Weights of one part alone get its prefix. MMEngine would load what fits, and only
    log the rest.

    Args:
        model: None of its parts is random after loading.
        state: Weights by their names, changed in place.
        prefix: Of the names of the model's weights.

    Raises:
        CheckpointMismatchError: If the weights do not fit their part, or leave a part
            random.
    """
    parts = {
        name: part
        for name in ('detector', 'sam2')
        if (part := getattr(model, name)) is not None
    }
    own = weights_below(prefix, state)
    if not any(key.startswith(tuple(f'{name}.' for name in parts)) for key in own):
        for name, part in parts.items():
            if own.keys() & part.state_dict().keys():
                for key in own:
                    del state[f'{prefix}{key}']
                own = fit_adapters(own, part.state_dict())
                state |= {f'{prefix}{name}.{key}': own[key] for key in own}
    given = {name: weights_below(f'{prefix}{name}.', state) for name in parts}
    for name, part in parts.items():
        if given[name]:
            load_part(given[name], part, part=NAMES[name], source='The checkpoint')
    random = [name for name in sorted(model.random_parts) if not given[name]]
    if random:
        msg = (
            f'The checkpoint has no weights of {NAMES[random[0]]}, and nothing else '
            f'gave it any; set model.{random[0]}_checkpoint'
        )
        raise CheckpointMismatchError(msg)
    for name, part in parts.items():
        if not given[name]:  # keeps its weights; MMEngine would list all as missing
            own = part.state_dict()
            state |= {f'{prefix}{name}.{key}': own[key] for key in own}
    model.random_parts = set()
