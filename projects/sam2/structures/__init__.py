"""Records that pass between the stages of the system.

Legend of the shape letters used in every docstring and comment of the project:

========  ==================================================================
B         clips (videos) of a batch
T         frames of a clip or video
O         objects: those of all clips of a batch, one after another
M         candidate masks of one decoding (1 or 3)
P         points of a prompt; a box counts as two
C, Cm     channels of the model (256), channels of a memory (64)
N         tokens
H, W      height and width in pixels of the frame that the model sees
H4, W4    the same at stride 4 (likewise H8, W8, H16, W16)
========  ==================================================================

Coordinates are ``(x, y)`` in pixels of the frame that the model sees, unless a
docstring says otherwise. Frames are RGB.
"""

from .clip import (
    ClipBatch,
    ClipSample,
    ClipTargets,
    EpochIndex,
    set_dataset_epoch,
)
from .prompts import FramePrompt, PointLabel, PointPrompt, PromptMark, marks_of_points
from .tracking import (
    EMBEDDING_STRIDE,
    LOW_RES_STRIDE,
    DecoderStep,
    EncodedFrame,
    FrameMemory,
    FrameOutput,
    ImageFeatures,
    TrackingMode,
)
from .video import (
    VOID_LABEL,
    FrameMasklets,
    FrameMasks,
    FramePrediction,
    Masklets,
    ObjectSource,
    PromptRound,
    RoundObserver,
    VideoRecord,
    VideoResult,
    VideoSource,
)

__all__ = [
    'EMBEDDING_STRIDE',
    'LOW_RES_STRIDE',
    'VOID_LABEL',
    'ClipBatch',
    'ClipSample',
    'ClipTargets',
    'DecoderStep',
    'EncodedFrame',
    'EpochIndex',
    'FrameMasklets',
    'FrameMasks',
    'FrameMemory',
    'FrameOutput',
    'FramePrediction',
    'FramePrompt',
    'ImageFeatures',
    'Masklets',
    'ObjectSource',
    'PointLabel',
    'PointPrompt',
    'PromptMark',
    'PromptRound',
    'RoundObserver',
    'TrackingMode',
    'VideoRecord',
    'VideoResult',
    'VideoSource',
    'marks_of_points',
    'set_dataset_epoch',
]
