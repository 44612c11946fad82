"""Stack of linear layers."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Literal

from torch import Tensor, nn

from projects.sam2.models.layers.recompute import apply_after

__all__ = ['MLP']

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
            norm: Applied to the tokens first; what it gives is not kept.
            keeps_hidden: Keep what is between the layers for the backward pass, on one
                side of each activation; otherwise the tokens alone are kept.

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
