"""Layers that several parts of the model share."""

from .attention import Attention, RotaryAttention
from .checkpointing import (
    apply_after,
    chunks,
    objects_at_once,
    recomputed,
)
from .cpu import ReLUDropout, ResidualDropout, is_plain_cpu
from .mlp import MLP, DropPath, LayerNorm2d, PixelLinear
from .position_encoding import (
    FourierPositionEncoding,
    sine_encoding_1d,
    sine_encoding_2d,
)

__all__ = [
    'MLP',
    'Attention',
    'DropPath',
    'FourierPositionEncoding',
    'LayerNorm2d',
    'PixelLinear',
    'ReLUDropout',
    'ResidualDropout',
    'RotaryAttention',
    'apply_after',
    'chunks',
    'is_plain_cpu',
    'objects_at_once',
    'recomputed',
    'sine_encoding_1d',
    'sine_encoding_2d',
]
