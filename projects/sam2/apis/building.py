"""Builds a model from a config and gives it weights."""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, TypedDict

import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS
from mmengine.runner import CheckpointLoader
from torch import Tensor

from projects.sam2.apis.configs import load_model_config
from projects.sam2.apis.inputs import read_whole_number
from projects.sam2.apis.released_overrides import read_overrides
from projects.sam2.checkpoints import (
    CheckpointMismatchError,
    check_weights,
    fit_adapters,
    recognise_model,
    weights_of,
)
from projects.sam2.models import SAM2

__all__ = [
    'BuildOptions',
    'Device',
    'ModelLike',
    'build_sam2',
    'default_device',
    'fitting_config',
    'model_of',
]

# A model may leave out this part.
PART_TYPES = {'data_preprocessor': {'type': 'ClipDataPreprocessor'}}
# What the release's `apply_postprocessing` sets, beside the holes that are filled.
PLAIN_MODEL = {
    'mask_decoder.stability_selection': False,
    'tracker.binary_clicked_memories': False,
}
Device = str | torch.device


class HasModel(Protocol):
    """A predictor around a model."""

    @property
    def model(self) -> SAM2:
        """The model."""


ModelLike = SAM2 | HasModel


class BuildOptions(TypedDict, total=False):
    """What :func:`build_sam2` takes beside a config and a checkpoint.

    Attributes:
        device: See :func:`build_sam2`.
        mode: Likewise.
        hydra_overrides_extra: Likewise.
        apply_postprocessing: Likewise.
        image_size: Likewise.
    """

    device: Device | None
    mode: Literal['eval', 'train']
    hydra_overrides_extra: Sequence[str]
    apply_postprocessing: bool
    image_size: tuple[int, int] | None


def build_sam2(
    config_file: str | Path | Config,
    ckpt_path: str | Path | None = None,
    device: Device | None = None,
    mode: Literal['eval', 'train'] = 'eval',
    hydra_overrides_extra: Sequence[str] = (),
    apply_postprocessing: bool = True,
    *,
    image_size: tuple[int, int] | None = None,
) -> SAM2:
    """Build a model and load its weights.

    Args:
        config_file: As for :func:`load_model_config`; a released name will do.
        ckpt_path: A released file, a SAM 2 folder of Hugging Face's transformers, or
            a file of ours; None leaves the weights at random.
        device: Where the model goes; by default ``'cuda'`` where there is one.
        mode: ``'eval'``, or ``'train'`` with dropout and the like.
        hydra_overrides_extra: As in the release, ``'++model.image_size=512'``.
        apply_postprocessing: Choose between the single mask and the best of three by
            stability, and remember clicked masks as decided, as the config says;
            False does neither.
        image_size: Height and width that images and frames are brought to, multiples
            of 32; by default what the config says.

    Returns:
        The model.

    Raises:
        CheckpointMismatchError: If the weights are of another version or size.
        FileNotFoundError: If there is no such config or checkpoint.
        ValueError: If the config has no model, the checkpoint is damaged, a side
            is no multiple of 32, the device is not there, the mode is unknown, or
            an override is.
    """
    if mode not in {'eval', 'train'}:
        msg = f"mode is {mode!r}; give 'eval' or 'train'"
        raise ValueError(msg)
    asked = read_overrides(hydra_overrides_extra)
    if asked.predictor:
        names = ', '.join(asked.predictor)
        msg = f'{names}: of a video predictor; use build_sam2_video_predictor'
        raise ValueError(msg)
    changes = ({} if apply_postprocessing else PLAIN_MODEL) | asked.model
    if image_size is not None:
        changes |= {'data_preprocessor.image_size': _size(image_size)}
    place = usable_device(device)
    model: SAM2 = MODELS.build(_changed(load_model_config(config_file).model, changes))
    if ckpt_path is not None:
        loaded = CheckpointLoader.load_checkpoint(str(ckpt_path), map_location='cpu')
        weights = fit_adapters(
            weights_of(loaded, source=str(ckpt_path)), model.state_dict()
        )
        check_weights(weights, model, source=str(ckpt_path))
        model.load_state_dict(weights)
    model.to(place).train(mode == 'train')
    return model


def model_of(model: object) -> SAM2:
    """Unwrap a model.

    Args:
        model: As :func:`build_sam2` returns it, compiled or wrapped for several
            devices; or a predictor.

    Returns:
        The model itself.

    Raises:
        TypeError: If ``model`` is something else.
    """
    inner: Any = model
    while not isinstance(inner, SAM2):
        for name in ('_orig_mod', 'module', 'model'):  # compiled, DDP, a predictor
            if getattr(inner, name, None) is not None:
                inner = getattr(inner, name)
                break
        else:
            msg = (
                f'The model is a {type(model).__name__}; give what build_sam2 or '
                f'build_sam2_video_predictor returns'
            )
            raise TypeError(msg)
    return inner


def default_device() -> str:
    """Where models go unless told otherwise.

    Returns:
        ``'cuda'`` where there is one, else ``'cpu'``.
    """
    return 'cuda' if torch.cuda.is_available() else 'cpu'


def usable_device(device: Device | None) -> torch.device:
    """Check a device.

    Args:
        device: As for :func:`build_sam2`.

    Returns:
        The device.

    Raises:
        ValueError: If its name is unknown, or it is a GPU that is not there.
    """
    try:
        place = torch.device(device or default_device())
    except RuntimeError as error:
        msg = (
            f"{device!r} is no device; give 'cpu', 'cuda' or, for one of them, 'cuda:1'"
        )
        raise ValueError(msg) from error
    if place.type == 'cuda' and (place.index or 0) >= torch.cuda.device_count():
        msg = (
            f'There is no {place}: torch {torch.__version__} finds '
            f"{torch.cuda.device_count()} GPUs; give another device, such as 'cpu'"
        )
        raise ValueError(msg)
    return place


def _size(image_size: object) -> tuple[int, int]:
    """Read height and width; a single number is the side of a square."""
    is_pair = isinstance(image_size, Sequence) and not isinstance(image_size, str)
    sides: Any = image_size if is_pair else (image_size, image_size)
    if len(sides) != 2:
        msg = f'image_size is {image_size!r}; give (height, width)'
        raise ValueError(msg)
    height, width = (
        read_whole_number(side, name='image_size', least=32) for side in sides
    )
    return height, width


def _changed(model: ConfigDict, changes: Mapping[str, Any]) -> ConfigDict:
    """A copy of a model's config with other values, by their dotted paths."""
    settings = copy.deepcopy(model)
    for path, value in changes.items():
        *parents, name = path.split('.')
        part = settings
        for parent in parents:
            if part.get(parent) is None:
                part[parent] = ConfigDict(PART_TYPES.get(parent, {}))
            part = part[parent]
        part[name] = value
    return settings


def fitting_config(
    weights: Mapping[str, Tensor],
    config: str | Path | Config | None = None,
    *,
    source: str,
) -> Config:
    """Find or check the config that weights belong to.

    Args:
        weights: By our names.
        config: As for :func:`load_model_config`; None goes by version and size of the
            weights.
        source: Where the weights come from, for the error.

    Returns:
        The config; its model has exactly these weights.

    Raises:
        CheckpointMismatchError: If no config fits, or not this one.
        FileNotFoundError: If there is no such config.
        ValueError: If the config has no model, or one that is no SAM2.
    """
    if config is None:
        kind = recognise_model({key: tuple(v.shape) for key, v in weights.items()})
        if kind is None or kind.config is None:
            msg = (
                f'{source} holds {kind or "no SAM 2"}, which no released config fits; '
                f'give the config that it was trained with (--config of a tool, the '
                f'model of SAM2Inferencer, the config of build_sam2)'
            )
            raise CheckpointMismatchError(msg)
        config = kind.config
    loaded = load_model_config(config)
    _require_sam2(loaded)
    bare = copy.deepcopy(loaded.model)
    bare.update(loss=None, accumulators=[])  # they have no weights
    with torch.device('meta'):
        model = MODELS.build(bare)
    check_weights(weights, model, source=source)
    return loaded


def _require_sam2(config: Config) -> None:
    """Raise where the model of a config is no SAM2."""
    model = config.model
    kind = model.get('type') if isinstance(model, Mapping) else model
    built_from = MODELS.get(kind) if isinstance(kind, str) else kind
    if not isinstance(built_from, type) or not issubclass(built_from, SAM2):
        msg = (
            f'Expected {config.filename or "the config"} to have a model of type SAM2 '
            f'or of a class derived from it, but got {kind!r}; give the config of the '
            f'SAM 2 that the weights belong to'
        )
        raise ValueError(msg)  # noqa: TRY004  a value of the config, as elsewhere
