"""Transforms of a clip, from its files to a ``ClipSample``.

In the order of a pipeline: ``sampling`` chooses frames and objects, ``loading`` decodes
them, ``augmentation`` composes geometry and colour and applies them in one warp,
``mosaic`` tiles the result, and ``ClipPack`` (``loading``) makes tensors.
"""

from .augmentation import (
    ClipColorJitter,
    ClipFit,
    ClipRandomAffine,
    ClipRandomFlip,
    ClipRandomGrayscale,
    ClipRandomResize,
    ClipResize,
    ClipWarp,
)
from .loading import ClipLoadFrames, ClipLoadMasklets, ClipPack
from .mosaic import ClipMosaic
from .sampling import ClipAddHiddenObjects, ClipSampleFrames, ClipSampleWhole

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
    'ClipWarp',
]
