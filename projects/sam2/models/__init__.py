"""The model and its registered parts."""

from projects.sam2.models.adaptation import SAM2Freezing, SAM2LowRankAdapters
from projects.sam2.models.backbones import Hiera
from projects.sam2.models.data_preprocessor import ClipDataPreprocessor
from projects.sam2.models.image_encoder import SAM2ImageEncoder
from projects.sam2.models.image_rounds import SAM2ImageRounds
from projects.sam2.models.mask_decoder import SAM2MaskDecoder
from projects.sam2.models.memory_attention import MemoryAttention
from projects.sam2.models.memory_bank import MemoryBank, MemoryBankEmpty
from projects.sam2.models.memory_encoder import MemoryEncoder
from projects.sam2.models.necks import HieraFPN
from projects.sam2.models.object_pointer import SAM2ObjectPointer
from projects.sam2.models.prompt_encoder import SAM2PromptEncoder
from projects.sam2.models.prompt_simulator import SAM2PromptSimulator
from projects.sam2.models.sam2 import SAM2
from projects.sam2.models.tracker import SAM2Tracker
from projects.sam2.models.video_rounds import SAM2OfflineRounds, SAM2OnlineRounds

__all__ = [
    'SAM2',
    'ClipDataPreprocessor',
    'Hiera',
    'HieraFPN',
    'MemoryAttention',
    'MemoryBank',
    'MemoryBankEmpty',
    'MemoryEncoder',
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
    'SAM2Tracker',
]
