"""Layer normalisation of feature maps."""

import torch
from torch import Tensor, nn

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
        centred = features - features.mean(dim=1, keepdim=True)
        variance = centred.square().mean(dim=1, keepdim=True)
        normalised = centred / torch.sqrt(variance + self.eps)
        return self.weight[:, None, None] * normalised + self.bias[:, None, None]
