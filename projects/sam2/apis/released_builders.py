"""The functions that build predictors, under their released names."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from mmengine.config import Config
from typing_extensions import Unpack

from ..models import SAM2
from .building import (
    BuildOptions,
    Device,
    VideoBuildOptions,
    build_sam2,
    build_video_model,
    find_pretrained,
)
from .video_predictor import SAM2VideoPredictor

__all__ = [
    'build_sam2_hf',
    'build_sam2_video_predictor',
    'build_sam2_video_predictor_hf',
]


def build_sam2_video_predictor(
    config_file: str | Path | Config,
    ckpt_path: str | Path | None = None,
    device: Device | None = None,
    mode: Literal['eval', 'train'] = 'eval',
    hydra_overrides_extra: Sequence[str] = (),
    apply_postprocessing: bool = True,
    vos_optimized: bool = False,
    *,
    image_size: tuple[int, int] | None = None,
) -> SAM2VideoPredictor:
    """Build a video predictor; for other options make one of :func:`build_sam2`.

    Args:
        config_file: As for :func:`build_sam2`.
        ckpt_path: Likewise.
        device: Likewise.
        mode: Likewise.
        hydra_overrides_extra: Likewise; options of the predictor as well, such as
            ``'++model.non_overlap_masks=true'``.
        apply_postprocessing: Likewise; and fill holes of up to 8 pixels of the
            stride-4 mask.
        vos_optimized: Compile the parts that run on each frame, with their first use.
        image_size: Likewise.

    Returns:
        The predictor.

    Raises:
        CheckpointMismatchError: If the weights are of another version or size.
        FileNotFoundError: If there is no such config or checkpoint.
        ValueError: As from :func:`build_sam2`.
    """
    model, options = build_video_model(
        config_file,
        ckpt_path,
        device=device,
        mode=mode,
        hydra_overrides_extra=hydra_overrides_extra,
        apply_postprocessing=apply_postprocessing,
        vos_optimized=vos_optimized,
        image_size=image_size,
    )
    return SAM2VideoPredictor(model, **options)


def build_sam2_hf(model_id: str, **options: Unpack[BuildOptions]) -> SAM2:
    """Build a model by its name on Hugging Face.

    Args:
        model_id: See :func:`find_pretrained`.
        options: See :func:`build_sam2`.

    Returns:
        The model.

    Raises:
        OSError: If there is no such model, or no way to it.
    """
    return build_sam2(*find_pretrained(model_id), **options)


def build_sam2_video_predictor_hf(
    model_id: str, **options: Unpack[VideoBuildOptions]
) -> SAM2VideoPredictor:
    """Build a video predictor by its model's name on Hugging Face.

    Args:
        model_id: See :func:`find_pretrained`.
        options: See :func:`build_sam2_video_predictor`.

    Returns:
        The predictor.

    Raises:
        OSError: If there is no such model, or no way to it.
    """
    return SAM2VideoPredictor.from_pretrained(model_id, **options)
