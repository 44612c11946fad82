"""What a config of mmdetection imports to use this package.

::

    custom_imports = dict(imports=['projects.sam2.bridges.mmdet'])

It registers all parts of this package and of the bridges to mmdetection, and installs
the operators in torch where mmcv's compiled ones are missing.
"""

from .mmcv_operators import ensure_operators

ensure_operators()  # before the imports below, some of which import mmdet.models

from . import hiera_backbone, image_dataset, mask_losses, video_dataset  # noqa: E402
from .detection import class_check, learned_prompts, mask_detector  # noqa: E402
from .tracking import (  # noqa: E402
    detector_tracker,
    track_metrics,
    track_visualizer,
)

__all__ = [
    'class_check',
    'detector_tracker',
    'hiera_backbone',
    'image_dataset',
    'learned_prompts',
    'mask_detector',
    'mask_losses',
    'track_metrics',
    'track_visualizer',
    'video_dataset',
]
