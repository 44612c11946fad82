"""Transforms of a clip, from its files to a ``ClipSample``."""

from projects.sam2.datasets.transforms.color import ClipColorJitter, ClipRandomGrayscale
from projects.sam2.datasets.transforms.geometry import (
    ClipRandomAffine,
    ClipRandomFlip,
)
from projects.sam2.datasets.transforms.hidden_objects import ClipAddHiddenObjects
from projects.sam2.datasets.transforms.loading import ClipLoadFrames, ClipLoadMasklets
from projects.sam2.datasets.transforms.mosaic import ClipMosaic
from projects.sam2.datasets.transforms.packing import ClipPack
from projects.sam2.datasets.transforms.resizing import (
    ClipFit,
    ClipRandomResize,
    ClipResize,
)
from projects.sam2.datasets.transforms.sampling import (
    ClipSampleFrames,
    ClipSampleWhole,
)
from projects.sam2.datasets.transforms.state import ClipState
from projects.sam2.datasets.transforms.warp import ClipWarp

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
