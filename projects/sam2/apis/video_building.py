"""Builds the model and the options of a video predictor, as the release does."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from mmengine.config import Config

from projects.sam2.apis.building import BuildOptions, Device, build_sam2
from projects.sam2.apis.released_overrides import PredictorOptions, read_overrides
from projects.sam2.models import SAM2

__all__ = ['VideoBuildOptions', 'build_video_model']

FILLED_HOLE_AREA = 8.0  # pixels of the stride-4 mask, as in the released predictor
PARTS_FOR_OBJECTS = (
    'mask_decoder',
    'tracker.memory_attention',
    'tracker.memory_encoder',
)


class VideoBuildOptions(BuildOptions, total=False):
    """What :func:`build_sam2_video_predictor` takes likewise.

    Attributes:
        vos_optimized: See :func:`build_sam2_video_predictor`.
    """

    vos_optimized: bool


def build_video_model(
    config_file: str | Path | Config,
    ckpt_path: str | Path | None,
    *,
    vos_optimized: bool = False,
    apply_postprocessing: bool = True,
    hydra_overrides_extra: Sequence[str] = (),
    device: Device | None = None,
    mode: Literal['eval', 'train'] = 'eval',
    image_size: tuple[int, int] | None = None,
) -> tuple[SAM2, PredictorOptions]:
    """Build what a video predictor is made of.

    Args:
        config_file: See :func:`build_sam2`.
        ckpt_path: Likewise.
        vos_optimized: See :func:`build_sam2_video_predictor`.
        apply_postprocessing: Likewise.
        hydra_overrides_extra: Likewise.
        device: See :func:`build_sam2`.
        mode: Likewise.
        image_size: Likewise.

    Returns:
        The model, and the options of its predictor.

    Raises:
        ValueError: As from :func:`build_sam2`.
    """
    options = read_overrides(hydra_overrides_extra).predictor
    if apply_postprocessing:
        options.setdefault('fill_hole_area', FILLED_HOLE_AREA)
    model = build_sam2(
        config_file,
        ckpt_path,
        device=device,
        mode=mode,
        hydra_overrides_extra=[
            one for one in hydra_overrides_extra if not read_overrides([one]).predictor
        ],
        apply_postprocessing=apply_postprocessing,
        image_size=image_size,
    )
    if vos_optimized:
        model.image_encoder.compile()
        for path in PARTS_FOR_OBJECTS:  # whose number varies
            model.get_submodule(path).compile(dynamic=True)
    return model, options
