"""What of a model is trained: frozen parts, and low-rank adapters beside them."""

from projects.sam2.models.adaptation.freezing import SAM2Freezing, frozen_modules
from projects.sam2.models.adaptation.low_rank import (
    SAM2LowRankAdapters,
    merged_weights,
    trained_weights,
)

__all__ = [
    'SAM2Freezing',
    'SAM2LowRankAdapters',
    'frozen_modules',
    'merged_weights',
    'trained_weights',
]
