"""Stochastic depth."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from .checkpointing import apply_after


class DropPath(nn.Module):
    """Drops a residual branch for whole samples in training.

    What is kept is scaled up, so that the expectation stays (Huang et al., 2016).

    Args:
        rate: Share of samples that lose the branch, in [0, 1).

    Raises:
        ValueError: If the rate is outside [0, 1).
    """

    def __init__(self, *, rate: float) -> None:
        super().__init__()
        if not 0 <= rate < 1:
            msg = f'Expected a drop path rate in [0, 1), but got {rate}'
            raise ValueError(msg)
        self.rate = rate

    def forward(self, branch: Tensor) -> Tensor:
        """Zero the branch of some samples.

        Args:
            branch: (B, ...).

        Returns:
            (B, ...).
        """
        if not self.training or self.rate == 0:
            return branch
        kept = 1 - self.rate
        shape = (branch.shape[0], *[1] * (branch.dim() - 1))
        return branch * branch.new_empty(shape).bernoulli_(kept).div_(kept)


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


class PixelLinear(nn.Conv2d):
    """A convolution of 1 x 1, computed as one product of matrices.

    For maps that lie in memory with their channels last, as those of the backbone do:
    a convolution would bring them to another layout and back, and on a CPU takes three
    times as long.

    Args:
        in_channels: Channels of the maps.
        out_channels: Channels of the results.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, kernel_size=1)

    def forward(self, maps: Tensor) -> Tensor:
        """Apply the layer.

        Args:
            maps: (B, C, H, W).

        Returns:
            (B, Cout, H, W), with the channels last in memory.
        """
        pixels = maps.permute(0, 2, 3, 1)  # (B, C, H, W) -> (B, H, W, C)
        projected = functional.linear(pixels, self.weight.flatten(1), self.bias)
        return projected.permute(0, 3, 1, 2)


ACTIVATIONS: dict[str, type[nn.Module]] = {'relu': nn.ReLU, 'gelu': nn.GELU}


class MLP(nn.Module):
    """Linear layers with an activation between each two.

    Args:
        in_dims: Channels of the input.
        hidden_dims: Channels between the layers.
        out_dims: Channels of the result.
        num_layers: Linear layers.
        activation: Between the layers; none follows the last one.
        sigmoid_output: Whether the result is squashed into [0, 1].
    """

    def __init__(
        self,
        *,
        in_dims: int,
        hidden_dims: int,
        out_dims: int,
        num_layers: int,
        activation: Literal['relu', 'gelu'] = 'relu',
        sigmoid_output: bool = False,
    ) -> None:
        super().__init__()
        dims = [in_dims, *[hidden_dims] * (num_layers - 1), out_dims]
        self.layers = nn.ModuleList(nn.Linear(*pair) for pair in pairwise(dims))
        self.activation = ACTIVATIONS[activation]()
        self.sigmoid_output = sigmoid_output

    def forward(
        self,
        tokens: Tensor,
        *,
        norm: Callable[[Tensor], Tensor] | None = None,
        keeps_hidden: bool = True,
    ) -> Tensor:
        """Apply the layers to the last dimension.

        Args:
            tokens: (..., in_dims).

        Returns:
            (..., out_dims).
        """
        # Rows of a matrix: what a layer makes of them is no view, so an activation may
        # work in place.
        leading = tokens.shape[:-1]
        tokens = tokens.reshape(-1, tokens.shape[-1])
        if keeps_hidden:
            first, *others = self.layers
            tokens = apply_after(norm, first, tokens)
            for layer in others:
                # Of ReLU only the result is kept, which the layer keeps anyway.
                if isinstance(self.activation, nn.GELU):
                    tokens = apply_after(self.activation, layer, tokens)
                else:
                    tokens = layer(self.activation(tokens))
        else:
            *hidden, last = self.layers
            tokens = apply_after(partial(self._hide, hidden, norm), last, tokens)
        tokens = tokens.reshape(*leading, tokens.shape[-1])
        return tokens.sigmoid() if self.sigmoid_output else tokens

    def _hide(
        self,
        layers: Sequence[nn.Module],
        norm: Callable[[Tensor], Tensor] | None,
        rows: Tensor,
    ) -> Tensor:
        """What the last layer is applied to."""
        rows = rows if norm is None else norm(rows)
        for layer in layers:
            rows = self.activation(layer(rows))
        return rows
