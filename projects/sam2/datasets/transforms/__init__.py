"""Transforms of a clip, from its files to a ``ClipSample``."""

from .base import ClipState
from .color import ClipColorJitter, ClipRandomGrayscale
from .geometry import (
    ClipFit,
    ClipRandomAffine,
    ClipRandomFlip,
    ClipRandomResize,
    ClipResize,
    ClipWarp,
)
from .loading import (
    ClipLoadFrames,
    ClipLoadMasklets,
    ClipPack,
)
from .mosaic import ClipMosaic
from .sampling import (
    ClipAddHiddenObjects,
    ClipSampleFrames,
    ClipSampleWhole,
)

__all__ = [
    'ClipAddHiddenObjects',
    'ClipColorJitter',
    'ClipFit',
    'ClipLoadFrames',
    'ClipLoadMasklets',
    'ClipMosaic',
    'ClipPack',
    'ClipRandomAffine',
    'ClipRandomFlip',
    'ClipRandomGrayscale',
    'ClipRandomResize',
    'ClipResize',
    'ClipSampleFrames',
    'ClipSampleWhole',
    'ClipState',
    'ClipWarp',
]
