"""Layers that several parts of the model share."""

from .attention import Attention, RotaryAttention, attend
from .checkpointing import (
    ActivationCheckpointing,
    checkpoint,
    recompute_activations,
    recompute_norms_and_activations,
    set_activation_checkpointing,
)
from .cpu import map_in_chunks, object_slices, supports_bfloat16, without_copies
from .linear import Linear, PixelLinear
from .mlp import MLP, Dropout, DropPath, LayerNorm2d
from .position_encoding import (
    FourierPositionEncoding,
    rotary_table,
    rotate,
    sine_encoding_1d,
    sine_encoding_2d,
)
from .windows import attend_in_windows, join_windows, pool, split_windows

__all__ = [
    'MLP',
    'ActivationCheckpointing',
    'Attention',
    'DropPath',
    'Dropout',
    'FourierPositionEncoding',
    'LayerNorm2d',
    'Linear',
    'PixelLinear',
    'RotaryAttention',
    'attend',
    'attend_in_windows',
    'checkpoint',
    'join_windows',
    'map_in_chunks',
    'object_slices',
    'pool',
    'recompute_activations',
    'recompute_norms_and_activations',
    'rotary_table',
    'rotate',
    'set_activation_checkpointing',
    'sine_encoding_1d',
    'sine_encoding_2d',
    'split_windows',
    'supports_bfloat16',
    'without_copies',
]
