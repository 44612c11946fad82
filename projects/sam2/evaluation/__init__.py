"""Region similarity J and contour accuracy F, frame by frame and over a dataset."""

from projects.sam2.evaluation.boundary import (
    boundary_f,
    boundary_map,
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
from projects.sam2.evaluation.frame_scores import (
    FrameScores,
    boundary_radius,
    scan_labels,
    score_labels,
    score_masks,
)
from projects.sam2.evaluation.jaccard import region_similarity
from projects.sam2.evaluation.jf_accumulator import JFAccumulator
from projects.sam2.evaluation.jf_metric import JFMetric
from projects.sam2.evaluation.masklet_recorder import MaskletRecorder
from projects.sam2.evaluation.protocol import (
    PROTOCOLS,
    JFAppearanceProtocol,
    JFDavisProtocol,
    JFProtocol,
    JFSAVProtocol,
)
from projects.sam2.evaluation.report import (
    describe_gaps,
    describe_nothing,
    describe_summary,
    format_tables,
    write_report,
)
from projects.sam2.evaluation.round_scores import (
    ClipPromptIoUAccumulator,
    ClipPromptIoUMetric,
    JFRoundsAccumulator,
    JFRoundsMetric,
    RoundIoUs,
    RoundScores,
)
from projects.sam2.evaluation.score_tracks import FrameObjects, ScoreTracks
from projects.sam2.evaluation.scores import (
    ObjectScores,
    PredictionGaps,
    ScoreSummary,
    VideoScores,
    summarise,
)

__all__ = [
    'PROTOCOLS',
    'ClipLossAccumulator',
    'ClipLossMetric',
    'ClipPromptIoUAccumulator',
    'ClipPromptIoUMetric',
    'FrameObjects',
    'FrameScores',
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
    'PredictionGaps',
    'RoundIoUs',
    'RoundScores',
    'ScoreSummary',
    'ScoreTracks',
    'VideoLosses',
    'VideoScores',
    'boundary_f',
    'boundary_map',
    'boundary_radius',
    'copy_first_masks',
    'describe_gaps',
    'describe_nothing',
    'describe_summary',
    'format_tables',
    'region_similarity',
    'scan_labels',
    'score_copy_baseline',
    'score_labels',
    'score_masks',
    'summarise',
    'write_report',
]
