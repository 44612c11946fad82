"""Small layers: MLP, norm, dropout and stochastic depth."""

from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from . import cpu
from .checkpointing import checkpoint, recompute_output
from .linear import Linear

ACTIVATIONS: dict[str, type[nn.Module]] = {'relu': nn.ReLU, 'gelu': nn.GELU}


class MLP(nn.Module):
    """Linear layers with activations between them.

    Args:
        in_dims: Channels of the input.
        hidden_dims: Channels between the layers.
        out_dims: Channels of the output.
        num_layers: Number of linear layers.
        activation: Between the layers; none follows the last one.
        dropout: Probability to drop a hidden unit in training, after ReLU.
        sigmoid_output: Squash the output into [0, 1].
    """

    def __init__(
        self,
        *,
        in_dims: int,
        hidden_dims: int,
        out_dims: int,
        num_layers: int,
        activation: Literal['relu', 'gelu'] = 'relu',
        dropout: float = 0.0,
        sigmoid_output: bool = False,
    ) -> None:
        super().__init__()
        dims = [in_dims, *[hidden_dims] * (num_layers - 1), out_dims]
        self.hidden_dims = hidden_dims
        self.layers = nn.ModuleList(Linear(*pair) for pair in pairwise(dims))
        self.activation = ReLUDropout(dropout) if dropout else ACTIVATIONS[activation]()
        self.sigmoid_output = sigmoid_output

    def forward(self, tokens: Tensor) -> Tensor:
        """(..., in_dims) -> (..., out_dims)."""
        # As rows of a matrix, so that the output of a linear layer is not a view and
        # ReLUDropout may overwrite it.
        rows = tokens.reshape(-1, tokens.shape[-1])
        output = cpu.map_rows(self._map, rows, row_size=self.hidden_dims)
        output = output.reshape(*tokens.shape[:-1], -1)
        return output.sigmoid() if self.sigmoid_output else output

    def _map(self, rows: Tensor) -> Tensor:
        *hidden_layers, last = self.layers
        for layer in hidden_layers:
            rows = self.activation(layer(rows))
        output: Tensor = last(rows)
        return output


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
        recompute_output(self)

    def forward(self, features: Tensor) -> Tensor:
        """(O, C, H, W) -> (O, C, H, W)."""
        if features.is_contiguous(memory_format=torch.channels_last):
            pixels = features.permute(0, 2, 3, 1)  # (O, H, W, C)
            normed = functional.layer_norm(
                pixels, self.weight.shape, self.weight, self.bias, self.eps
            )
            return normed.permute(0, 3, 1, 2)
        # functional.layer_norm would change the layout, and is slow for few channels.
        return checkpoint(self._normalise, features)

    def _normalise(self, features: Tensor) -> Tensor:
        centred = features - features.mean(dim=1, keepdim=True)
        variance = centred.square().mean(dim=1, keepdim=True)
        normalised = centred / torch.sqrt(variance + self.eps)
        return self.weight[:, None, None] * normalised + self.bias[:, None, None]


class Dropout(nn.Module):
    """Dropout; on a CPU a seed is kept for the backward pass rather than a mask.

    Args:
        rate: Probability to drop an element in training, in [0, 1).
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, tensor: Tensor) -> Tensor:
        """Drop elements and scale the others up."""
        if self.training and self.rate and cpu.is_plain_cpu(tensor):
            return cpu.dropout(tensor, self.rate)
        return functional.dropout(tensor, self.rate, self.training)


class ReLUDropout(nn.Module):
    """ReLU and dropout in place; only the output is kept for the backward pass.

    Args:
        rate: Probability to drop an element in training, in [0, 1).
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, tensor: Tensor) -> Tensor:
        """Rectify, drop and scale."""
        if not self.training or not self.rate or torch.compiler.is_compiling():
            return functional.dropout(tensor.relu(), self.rate, self.training)
        dropped: Tensor = _ReLUDropout.apply(tensor, self.rate)  # type: ignore[no-untyped-call]  # torch
        return dropped


class _ReLUDropout(torch.autograd.Function):
    """The gradient is 0 where the output is, so backward needs only the output."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, rate: float) -> Tensor:
        output = tensor.relu_()
        if cpu.is_plain_cpu(output) and output.is_contiguous():
            cpu.dropout_(output, rate)
        else:
            functional.dropout(output, rate, inplace=True)
        ctx.mark_dirty(tensor)
        ctx.rate = rate
        ctx.save_for_backward(output)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (output,) = ctx.saved_tensors
        # The backward pass of torch's ReLU: one pass over memory, without a mask.
        passed_on = torch.ops.aten.threshold_backward(gradient, output, 0)
        return passed_on.mul_(1 / (1 - ctx.rate)), None


class DropPath(nn.Module):
    """Stochastic depth: drops a residual branch for whole samples (Huang et al., 2016).

    Args:
        rate: Probability that a sample loses the branch in training, in [0, 1).

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
        """Zero the branch (B, ...) of some samples and scale the others up."""
        if not self.training or self.rate == 0:
            return branch
        keep_prob = 1 - self.rate
        shape = (branch.shape[0], *[1] * (branch.dim() - 1))
        return branch * branch.new_empty(shape).bernoulli_(keep_prob).div_(keep_prob)
