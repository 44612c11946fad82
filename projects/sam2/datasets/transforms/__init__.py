"""Transforms of a clip, from its files to a ``ClipSample``."""

from projects.sam2.datasets.transforms.color import ClipColorJitter, ClipRandomGrayscale
from projects.sam2.datasets.transforms.geometry import (
    ClipRandomAffine,
    ClipRandomFlip,
    ClipResize,
)
from projects.sam2.datasets.transforms.loading import ClipLoadFrames, ClipLoadMasklets
from projects.sam2.datasets.transforms.packing import ClipPack
from projects.sam2.datasets.transforms.sampling import ClipSampleFrames
from projects.sam2.datasets.transforms.state import ClipState
from projects.sam2.datasets.transforms.warp import ClipWarp

__all__ = [
    'ClipColorJitter',
    'ClipLoadFrames',
    'ClipLoadMasklets',
    'ClipPack',
    'ClipRandomAffine',
    'ClipRandomFlip',
    'ClipRandomGrayscale',
    'ClipResize',
    'ClipSampleFrames',
    'ClipState',
    'ClipWarp',
]
