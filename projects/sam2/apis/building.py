"""Builds a model from a config and gives it weights."""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from mmengine.runner import CheckpointLoader
from torch import Tensor

from projects.sam2.apis.configs import load_model_config
from projects.sam2.apis.video_predictor import SAM2VideoPredictor
from projects.sam2.checkpoints import (
    CheckpointMismatchError,
    check_weights,
    recognise_model,
    weights_of,
)
from projects.sam2.models import SAM2

__all__ = ['build_sam2', 'build_sam2_video_predictor', 'fitting_config']

FILLED_HOLE_AREA = 8  # pixels of the stride-4 mask, as in the released predictor


def build_sam2(
    config: str | Path | Config,
    checkpoint: str | Path | None = None,
    device: str | torch.device = 'cpu',
    mode: Literal['eval', 'train'] = 'eval',
    *,
    image_size: tuple[int, int] | None = None,
) -> SAM2:
    """Build a model and load its weights.

    Args:
        config: As for :func:`load_model_config`; a released name will do.
        checkpoint: A released file, a SAM 2 folder of Hugging Face's transformers, or
            a file of ours; None leaves the weights at random.
        device: Where the model goes.
        mode: ``'eval'``, or ``'train'`` with dropout and the like.
        image_size: Height and width that images and frames are brought to, multiples
            of 32; by default what the config says.

    Returns:
        The model.

    Raises:
        CheckpointMismatchError: If the weights are of another version or size.
        FileNotFoundError: If there is no such config or checkpoint.
        ValueError: If the config has no model, the checkpoint is damaged, or a side
            is no multiple of 32.
    """
    settings = copy.deepcopy(load_model_config(config).model)
    if image_size is not None:
        preprocessor = settings.get('data_preprocessor') or {
            'type': 'ClipDataPreprocessor'
        }
        settings['data_preprocessor'] = {**preprocessor, 'image_size': image_size}
    model: SAM2 = MODELS.build(settings)
    if checkpoint is not None:
        loaded = CheckpointLoader.load_checkpoint(str(checkpoint), map_location='cpu')
        weights = weights_of(loaded, source=str(checkpoint))
        check_weights(weights, model, source=str(checkpoint))
        model.load_state_dict(weights)
    model.to(device).train(mode == 'train')
    return model


def build_sam2_video_predictor(
    config: str | Path | Config,
    checkpoint: str | Path | None = None,
    device: str | torch.device = 'cpu',
    *,
    image_size: tuple[int, int] | None = None,
    apply_postprocessing: bool = True,
) -> SAM2VideoPredictor:
    """Build a video predictor; for other options make one of :func:`build_sam2`.

    Args:
        config: As for :func:`load_model_config`; a released name will do.
        checkpoint: As for :func:`build_sam2`.
        device: Where the model goes.
        image_size: As for :func:`build_sam2`.
        apply_postprocessing: Fill holes of up to 8 pixels of the stride-4 mask.

    Returns:
        The predictor.

    Raises:
        CheckpointMismatchError: If the weights are of another version or size.
        FileNotFoundError: If there is no such config or checkpoint.
        ValueError: As from :func:`build_sam2`.
    """
    model = build_sam2(config, checkpoint, device, image_size=image_size)
    area = FILLED_HOLE_AREA if apply_postprocessing else 0
    return SAM2VideoPredictor(model, fill_hole_area=area)


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
                f'name the config that it was trained with'
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
