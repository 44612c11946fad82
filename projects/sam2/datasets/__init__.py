"""Sources of clips and videos, and the transforms that make training clips of them."""

from projects.sam2.datasets.clip_dataset import ClipDataset
from projects.sam2.datasets.errors import ClipDataError
from projects.sam2.datasets.palette import ClipPaletteDataset, PaletteVideoSource
from projects.sam2.datasets.synthetic_dataset import (
    ClipSyntheticDataset,
    RenderedVideoSource,
)
from projects.sam2.datasets.transforms import (
    ClipAddHiddenObjects,
    ClipColorJitter,
    ClipExactAugment,
    ClipFit,
    ClipLoadFrames,
    ClipLoadMasklets,
    ClipMosaic,
    ClipPack,
    ClipRandomAffine,
    ClipRandomFlip,
    ClipRandomGrayscale,
    ClipRandomResize,
    ClipResize,
    ClipSampleFrames,
    ClipSampleWhole,
    ClipState,
    ClipWarp,
)
from projects.sam2.datasets.video_dataset import ClipVideoDataset, StridedVideoSource

__all__ = [
    'ClipAddHiddenObjects',
    'ClipColorJitter',
    'ClipDataError',
    'ClipDataset',
    'ClipExactAugment',
    'ClipFit',
    'ClipLoadFrames',
    'ClipLoadMasklets',
    'ClipMosaic',
    'ClipPack',
    'ClipPaletteDataset',
    'ClipRandomAffine',
    'ClipRandomFlip',
    'ClipRandomGrayscale',
    'ClipRandomResize',
    'ClipResize',
    'ClipSampleFrames',
    'ClipSampleWhole',
    'ClipState',
    'ClipSyntheticDataset',
    'ClipVideoDataset',
    'ClipWarp',
    'PaletteVideoSource',
    'RenderedVideoSource',
    'StridedVideoSource',
]
