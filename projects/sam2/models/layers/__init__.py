"""Layers that several parts of the model share."""

from projects.sam2.models.layers.attention import Attention
from projects.sam2.models.layers.drop_path import DropPath
from projects.sam2.models.layers.dropout import (
    ReLUDropout,
    ResidualDropout,
    is_plain_cpu,
)
from projects.sam2.models.layers.fourier_encoding import FourierPositionEncoding
from projects.sam2.models.layers.mlp import MLP
from projects.sam2.models.layers.norm import LayerNorm2d
from projects.sam2.models.layers.object_chunks import chunks, objects_at_once
from projects.sam2.models.layers.pixel_linear import PixelLinear
from projects.sam2.models.layers.position_encoding import (
    sine_encoding_1d,
    sine_encoding_2d,
)
from projects.sam2.models.layers.recompute import apply_after, recomputed
from projects.sam2.models.layers.rotary import RotaryAttention

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
