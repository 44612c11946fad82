"""Layer normalisation of feature maps."""

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ['LayerNorm2d']


class LayerNorm2d(nn.Module):
    """Normalises the channels of each pixel of a feature map.

    Not an ``nn.LayerNorm``: the published recipe exempts that class, and not this
    one, from weight decay.

    Args:
        channels: Channels of the map.
        eps: Added to the variance.
    """

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, features: Tensor) -> Tensor:
        """Normalise over the channels.

        Args:
            features: (O, C, H, W).

        Returns:
            (O, C, H, W).
        """
        if features.is_contiguous(memory_format=torch.channels_last):
            # Channels side by side in memory: torch's norm of tokens is fast.
            pixels = features.permute(0, 2, 3, 1)
            channels = (pixels.shape[-1],)
            normed = functional.layer_norm(
                pixels, channels, self.weight, self.bias, self.eps
            )
            return normed.permute(0, 3, 1, 2)
        centred = features - features.mean(dim=1, keepdim=True)
        variance = centred.square().mean(dim=1, keepdim=True)
        normalised = centred / torch.sqrt(variance + self.eps)
        return self.weight[:, None, None] * normalised + self.bias[:, None, None]
