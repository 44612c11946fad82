"""The model and its registered parts."""

from .adaptation import SAM2Freezing, SAM2LowRankAdapters
from .data_preprocessor import ClipDataPreprocessor
from .distillation import SAM2Distillation
from .edgetam import EdgeTAMCrossAttention, EdgeTAMPerceiver, EdgeTAMTracker
from .efficienttam import (
    EfficientTAMCrossAttention,
    EfficientTAMNeck,
    EfficientTAMViT,
)
from .hiera import Hiera
from .image_encoder import HieraFPN, SAM2ImageEncoder
from .mask_decoder import SAM2MaskDecoder
from .memory_attention import MemoryAttention
from .memory_bank import MemoryBank, MemoryBankEmpty
from .memory_encoder import MemoryEncoder, SAM2ObjectPointer
from .policies import MemoryBankDAM4SAM, MemoryBankSAM2Long, MemoryBankSAMURAI
from .prompt_encoder import SAM2PromptEncoder
from .prompt_simulator import SAM2PromptSimulator
from .repvit import EdgeTAMRepViT
from .sam2 import SAM2
from .sam3 import SAM3Neck, SAM3ViT
from .test_time_augmentation import SAM2TTAModel
from .tracking.frame import SAM2Tracker
from .tracking.rounds import (
    SAM2ImageRounds,
    SAM2OfflineRounds,
    SAM2OnlineRounds,
)

__all__ = [
    'SAM2',
    'ClipDataPreprocessor',
    'EdgeTAMCrossAttention',
    'EdgeTAMPerceiver',
    'EdgeTAMRepViT',
    'EdgeTAMTracker',
    'EfficientTAMCrossAttention',
    'EfficientTAMNeck',
    'EfficientTAMViT',
    'Hiera',
    'HieraFPN',
    'MemoryAttention',
    'MemoryBank',
    'MemoryBankDAM4SAM',
    'MemoryBankEmpty',
    'MemoryBankSAM2Long',
    'MemoryBankSAMURAI',
    'MemoryEncoder',
    'SAM2Distillation',
    'SAM2Freezing',
    'SAM2ImageEncoder',
    'SAM2ImageRounds',
    'SAM2LowRankAdapters',
    'SAM2MaskDecoder',
    'SAM2ObjectPointer',
    'SAM2OfflineRounds',
    'SAM2OnlineRounds',
    'SAM2PromptEncoder',
    'SAM2PromptSimulator',
    'SAM2TTAModel',
    'SAM2Tracker',
    'SAM3Neck',
    'SAM3ViT',
]
