from .annotated_video import AnnotatedVideo
from .clip_dataset import ClipDataset, ClipState
from .io.errors import ClipDataError
from .sources.coco import ClipCocoDataset
from .sources.davis import ClipPaletteDataset
from .sources.label_images import ClipLabelImageDataset
from .sources.labelme import ClipLabelMeDataset
from .sources.object_folders import ClipObjectFolderDataset
from .sources.sa1b import ClipSA1BDataset
from .sources.sav import ClipSAVDataset
from .sources.synthetic import (
    ClipSyntheticDataset,
    RenderedVideoSource,
)
from .sources.youtube_vis import ClipYouTubeVISDataset
from .transforms import (
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
    ClipWarp,
)
from .wrappers import (
    ClipOneObjectDataset,
    ClipRangeDataset,
    ClipStrideDataset,
    ClipVideoDataset,
    StridedVideoSource,
)

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
    'ClipRangeDataset',
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
