"""Settings that trade a little accuracy for speed on a CPU."""

import re
import warnings
from typing import Literal, get_args

from torch import nn

from .layers import Linear, PixelLinear, supports_bfloat16

CPUPrecision = Literal['float32', 'bfloat16']
CPU_PRECISIONS: tuple[str, ...] = get_args(CPUPrecision)
# Layers with most of the work. Their outputs are added to float32 tokens; the heads of
# the mask decoder, which are small, stay in float32.
BFLOAT16_LAYERS = re.compile(
    r'image_encoder\.backbone\..*\.(attention|mlp)\.'
    r'|tracker\.memory_attention\.'
    r'|tracker\.memory_encoder\.fuser\.'
    r'|mask_decoder\.transformer\..*(image_to_token|token_to_image)\.'
)


def set_cpu_precision(model: nn.Module, precision: CPUPrecision) -> None:
    """Choose the type in which a CPU multiplies the matrices of large layers.

    Args:
        model: A SAM 2.
        precision: ``'bfloat16'`` applies to prediction, on CPUs that have instructions
            for it (AVX512-BF16 or AMX); all else stays in float32.

    Raises:
        ValueError: If the precision is unknown.
    """
    if precision not in CPU_PRECISIONS:
        msg = f'cpu_precision is {precision!r}; give one of {CPU_PRECISIONS}'
        raise ValueError(msg)
    for name, layer in model.named_modules():
        if isinstance(layer, Linear | PixelLinear):
            is_large = BFLOAT16_LAYERS.match(name) is not None
            layer.in_bfloat16 = is_large and precision == 'bfloat16'


def use_fast_settings(model: nn.Module) -> None:
    """Predict in bfloat16 by :func:`set_cpu_precision`; warn where that has no effect.

    Args:
        model: A SAM 2, on its device.
    """
    if next(model.parameters()).device.type != 'cpu':
        warnings.warn(
            'fast settings are for a CPU: they have no effect here', stacklevel=3
        )
    elif not supports_bfloat16():
        warnings.warn(
            'fast settings have no effect: the CPU has no AVX512-BF16 or AMX',
            stacklevel=3,
        )
    set_cpu_precision(model, 'bfloat16')
