"""Sources of clips and videos, and the transforms that make training clips of them."""

from projects.sam2.datasets.annotated_video import AnnotatedVideo
from projects.sam2.datasets.clip_dataset import ClipDataset
from projects.sam2.datasets.coco import ClipCocoDataset
from projects.sam2.datasets.errors import ClipDataError
from projects.sam2.datasets.label_images import ClipLabelImageDataset
from projects.sam2.datasets.labelme import ClipLabelMeDataset
from projects.sam2.datasets.object_folders import ClipObjectFolderDataset
from projects.sam2.datasets.palette import ClipPaletteDataset
from projects.sam2.datasets.sa1b import ClipSA1BDataset
from projects.sam2.datasets.sav import ClipSAVDataset
from projects.sam2.datasets.synthetic_dataset import (
    ClipSyntheticDataset,
    RenderedVideoSource,
)
from projects.sam2.datasets.transforms import (
    ClipAddHiddenObjects,
    ClipColorJitter,
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
from projects.sam2.datasets.video_dataset import ClipVideoDataset
from projects.sam2.datasets.views import (
    ClipOneObjectDataset,
    ClipStrideDataset,
    StridedVideoSource,
)
from projects.sam2.datasets.youtube_vis import ClipYouTubeVISDataset

__all__ = [
    'AnnotatedVideo',
    'ClipAddHiddenObjects',
    'ClipCocoDataset',
    'ClipColorJitter',
    'ClipDataError',
    'ClipDataset',
    'ClipFit',
    'ClipLabelImageDataset',
    'ClipLabelMeDataset',
    'ClipLoadFrames',
    'ClipLoadMasklets',
    'ClipMosaic',
    'ClipObjectFolderDataset',
    'ClipOneObjectDataset',
    'ClipPack',
    'ClipPaletteDataset',
    'ClipRandomAffine',
    'ClipRandomFlip',
    'ClipRandomGrayscale',
    'ClipRandomResize',
    'ClipResize',
    'ClipSA1BDataset',
    'ClipSAVDataset',
    'ClipSampleFrames',
    'ClipSampleWhole',
    'ClipState',
    'ClipStrideDataset',
    'ClipSyntheticDataset',
    'ClipVideoDataset',
    'ClipWarp',
    'ClipYouTubeVISDataset',
    'RenderedVideoSource',
    'StridedVideoSource',
]
