"""Region similarity J and contour accuracy F, frame by frame and over a dataset."""

from projects.sam2.evaluation.boundary import (
    boundary_f,
    boundary_map,
    boundary_radius,
)
from projects.sam2.evaluation.clip_loss import (
    ClipLossAccumulator,
    ClipLossMetric,
    VideoLosses,
)
from projects.sam2.evaluation.copy_baseline import (
    copy_first_masks,
    score_copy_baseline,
)
from projects.sam2.evaluation.jaccard import region_similarity
from projects.sam2.evaluation.jf_accumulator import JFAccumulator
from projects.sam2.evaluation.jf_metric import JFMetric
from projects.sam2.evaluation.masklet_recorder import MaskletRecorder
from projects.sam2.evaluation.protocol import (
    JFAppearanceProtocol,
    JFDavisProtocol,
    JFProtocol,
    JFSAVProtocol,
)
from projects.sam2.evaluation.round_scores import (
    ClipPromptIoUAccumulator,
    ClipPromptIoUMetric,
    JFRoundsAccumulator,
    JFRoundsMetric,
    RoundIoUs,
    RoundScores,
)
from projects.sam2.evaluation.scores import (
    ObjectScores,
    ScoreSummary,
    VideoScores,
    summarise,
)

__all__ = [
    'ClipLossAccumulator',
    'ClipLossMetric',
    'ClipPromptIoUAccumulator',
    'ClipPromptIoUMetric',
    'JFAccumulator',
    'JFAppearanceProtocol',
    'JFDavisProtocol',
    'JFMetric',
    'JFProtocol',
    'JFRoundsAccumulator',
    'JFRoundsMetric',
    'JFSAVProtocol',
    'MaskletRecorder',
    'ObjectScores',
    'RoundIoUs',
    'RoundScores',
    'ScoreSummary',
    'VideoLosses',
    'VideoScores',
    'boundary_f',
    'boundary_map',
    'boundary_radius',
    'copy_first_masks',
    'region_similarity',
    'score_copy_baseline',
    'summarise',
]
