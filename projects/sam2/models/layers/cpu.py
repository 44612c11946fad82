"""Dropout that keeps a seed in place of its noise."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

# Noise is compared in 16 bits: rates are exact to 1 / 65536.
NOISE_LEVELS = 65536
NOISE_PER_WORD = 4  # 16-bit numbers in a 64-bit word
# Elements that get their noise at once: a multiple of the words, small for the cache.
PIECE = 2**17


def draw_seed() -> int:
    """Draw a seed from torch's own stream, so that it is saved and restored with it."""
    return int(torch.randint(2**62, ()).item())


class KeepMasks:
    """Which elements dropout keeps, drawn anew from a seed as often as wanted.

    On a CPU this is ten times as fast as torch's Bernoulli numbers.

    Args:
        seed: The same seed gives the same masks in the same order.
        rate: Share of elements dropped, in [0, 1).
    """

    def __init__(self, seed: int, rate: float) -> None:
        self._seed = seed
        self._threshold = round(rate * NOISE_LEVELS)
        self.scale = 1 / (1 - rate)  # makes up for what is dropped
        self.restart()

    def restart(self) -> None:
        """Begin with the first mask again."""
        self._words = np.random.SFC64(self._seed)

    def draw(self, count: int) -> NDArray[np.bool_]:
        """Draw the next mask.

        Returns:
            (count,), True for what is kept.
        """
        words = self._words.random_raw(-(-count // NOISE_PER_WORD))
        return words.view(np.uint16)[:count] >= self._threshold

    def apply(self, tensor: Tensor) -> Tensor:
        """Set what is dropped to 0, in place.

        Returns:
            ``tensor``.
        """
        elements = tensor.view(-1).numpy()
        for start in range(0, len(elements), PIECE):
            piece = elements[start : start + PIECE]
            # NumPy multiplies by booleans faster than torch does, or fills by a mask.
            np.multiply(piece, self.draw(len(piece)), out=piece)
        return tensor


class ResidualDropout(nn.Module):
    """Drops elements of a branch and adds the branch to its shortcut.

    On a CPU a seed is kept for the backward pass, not noise.

    Args:
        rate: Share of elements dropped in training, in [0, 1).
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, shortcut: Tensor, branch: Tensor) -> Tensor:
        """Drop, scale up what stays, and add."""
        rate = self.rate if self.training else 0.0
        if rate == 0:
            return shortcut + branch
        if not is_plain_cpu(branch):
            return shortcut + functional.dropout(branch, rate)
        masks = KeepMasks(draw_seed(), rate)
        added: Tensor = _DropAndAdd.apply(branch, shortcut, masks)  # type: ignore[no-untyped-call]  # torch
        return added


class ReLUDropout(nn.Module):
    """ReLU, then dropout, in place: of both only the result is there in the end.

    Where the result is 0 there is no gradient, be it that the input was negative or
    that it was dropped.

    Args:
        rate: Share of elements dropped in training, in [0, 1).
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, tensor: Tensor) -> Tensor:
        """Rectify and drop."""
        rate = self.rate if self.training else 0.0
        if rate == 0 or torch.compiler.is_compiling():
            return functional.dropout(functional.relu(tensor), rate)
        dropped: Tensor = _ReLUDropout.apply(tensor, rate)  # type: ignore[no-untyped-call]  # torch
        return dropped


def is_plain_cpu(tensor: Tensor) -> bool:
    """Say whether a tensor is worked on by functions written for the CPU."""
    is_fine = tensor.dtype in (torch.float32, torch.float64)
    return is_fine and tensor.is_cpu and not torch.compiler.is_compiling()


def _drop_anew(tensor: Tensor, masks: KeepMasks) -> Tensor:
    """What the first of the masks makes of a tensor, as a new one."""
    masks.restart()
    return masks.apply((tensor * masks.scale).contiguous())


class _DropAndAdd(torch.autograd.Function):
    """Dropout and a sum in one new tensor; nothing but the seed is kept."""

    @staticmethod
    def forward(
        ctx: Any,
        branch: Tensor,
        shortcut: Tensor,
        masks: KeepMasks,
    ) -> Tensor:
        """Drop, scale and add."""
        ctx.masks = masks
        return _drop_anew(branch, masks).add_(shortcut)

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any,
        gradient: Tensor,
    ) -> tuple[Tensor, Tensor, None]:
        """Drop and scale what was dropped and scaled; the shortcut gets all."""
        return _drop_anew(gradient, ctx.masks), gradient, None


class _ReLUDropout(torch.autograd.Function):
    """ReLU and dropout, whose result tells where the gradient goes."""

    @staticmethod
    def forward(
        ctx: Any,
        tensor: Tensor,
        rate: float,
    ) -> Tensor:
        """Rectify and drop."""
        result = tensor.relu_()
        if is_plain_cpu(tensor) and tensor.is_contiguous():
            masks = KeepMasks(draw_seed(), rate)
            masks.apply(result.mul_(masks.scale))
        else:
            functional.dropout(result, rate, inplace=True)
        ctx.mark_dirty(tensor)
        ctx.rate = rate
        ctx.save_for_backward(result)
        return result

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any,
        gradient: Tensor,
    ) -> tuple[Tensor, None]:
        """Pass on what was kept."""
        (result,) = ctx.saved_tensors
        # threshold_backward is ReLU's own: one pass, no mask in between.
        kept = torch.ops.aten.threshold_backward(gradient, result, 0)
        return kept.mul_(1 / (1 - ctx.rate)), None


# Rows of the weights that are worked on at once: they stay in the cache.
NUM_ROWS = 256
# Weights of a head up to this size are kept: a hundred such heads are worth the time
# that making them again takes, larger ones are what fills the memory.
KEPT_BYTES = 2**24


@dataclass(frozen=True, slots=True)
class Keys:
    """Keys, by what they are made of: that is kept in their place.

    Attributes:
        sources: What they are made of, with its graph: tokens (O, L, ...), weights.
        make: Makes keys of these, the same each time, and reads nothing else that
            may change.
    """

    sources: tuple[Tensor, ...]
    make: Callable[..., Tensor]

    def made(self) -> Tensor:
        """Make them.

        Returns:
            (O, heads, L, C).
        """
        return self.make(*self.sources)


def row_attention(
    query: Tensor, keys: Keys, value: Tensor, rate: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Scaled dot-product attention whose weights may be dropped at random.

    torch's fast kernels for the CPU know no dropout, nor values of other widths than
    the keys, and the slow one keeps three copies of the weights. This one works through
    some rows at a time, keeps the weights once where they are small, and makes them
    again in the backward pass where they are not, the dropped ones among them. Of the
    keys it keeps what they are made of.

    Args:
        query: (..., N, C), on the CPU.
        keys: Make (..., L, C).
        value: (..., L, Cv), kept.
        rate: Share of weights dropped, in [0, 1); those that stay are scaled up.

    Returns:
        What is gathered, (..., N, Cv), and the sum of the weights that each query has
        left, (..., N, 1), which is 1 without dropout; both differentiable once.
    """
    masks = KeepMasks(draw_seed(), rate) if rate else None
    gathered, left = _RowAttention.apply(  # type: ignore[no-untyped-call]  # torch
        *(tensor.flatten(0, -3) for tensor in (query, keys.made(), value)),
        _Means(
            # Their gradients go by the keys.
            sources=tuple(source.detach() for source in keys.sources),
            make_keys=keys.make,
            masks=masks,
        ),
    )
    heads = query.shape[:-2]
    return gathered.unflatten(0, heads), left.unflatten(0, heads)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rows:
    """Some queries of one head.

    Attributes:
        head: Which of the flattened heads.
        rows: Which queries.
        query: Those, scaled, (R, C).
        key: (L, C).
        value: (L, Cv).
    """

    head: int
    rows: slice
    query: Tensor
    key: Tensor
    value: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class _Means:
    """By what the backward pass makes again what is not kept.

    Attributes:
        sources: What the keys are made of, without a graph.
        make_keys: Makes them.
        masks: Which weights stay; None for all.
    """

    sources: tuple[Tensor, ...]
    make_keys: Callable[..., Tensor]
    masks: KeepMasks | None


def _parts(query: Tensor, key: Tensor, value: Tensor) -> Iterator[_Rows]:
    """Go through all weights."""
    num_heads, num_queries, channels = query.shape
    for head in range(num_heads):
        for start in range(0, num_queries, NUM_ROWS):
            rows = slice(start, min(start + NUM_ROWS, num_queries))
            yield _Rows(
                head=head,
                rows=rows,
                query=query[head, rows] * channels**-0.5,
                key=key[head],
                value=value[head],
            )


def _mark_dropped(weights: Tensor, masks: KeepMasks | None) -> Tensor:
    """Turn the sign of what is dropped, in place, so that both can be told later."""
    if masks is not None:
        elements = weights.view(-1).numpy()
        signs = masks.draw(len(elements)).view(np.int8) * np.int8(2) - np.int8(1)
        np.multiply(elements, signs, out=elements)
    return weights


class _RowAttention(torch.autograd.Function):
    """Attention in rows."""

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        means: _Means,
    ) -> tuple[Tensor, Tensor]:
        """Gather (O, N, Cv) from the values, and sum up weights, (O, N, 1)."""
        masks = means.masks
        shape = *query.shape[:2], key.shape[1]
        gathered = query.new_empty(*shape[:2], value.shape[2])
        sums, left = query.new_empty(*shape[:2], 1), query.new_empty(*shape[:2], 1)
        size = shape[1] * shape[2] * query.element_size()
        kept = query.new_empty(shape) if size <= KEPT_BYTES else None
        buffers = query.new_empty(2, min(NUM_ROWS, shape[1]), shape[2])
        for part in _parts(query, key, value):
            place = part.head, part.rows
            weights, remaining = buffers[:, : len(part.query)]
            weights = weights if kept is None else kept[place]
            torch.mm(part.query, part.key.t(), out=weights)
            torch.logsumexp(weights, dim=1, keepdim=True, out=sums[place])
            _mark_dropped(weights.sub_(sums[place]).exp_(), masks)
            torch.clamp_min(weights, 0, out=remaining)
            torch.sum(remaining, dim=1, keepdim=True, out=left[place])
            torch.mm(remaining, part.value, out=gathered[place])
        if masks is not None:
            gathered.mul_(masks.scale)
            left.mul_(masks.scale)
        ctx.save_for_backward(query, value, gathered, left, sums, kept, *means.sources)
        ctx.make_keys, ctx.masks = means.make_keys, masks
        return gathered, left

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any,
        of_gathered: Tensor,
        of_left: Tensor,
    ) -> tuple[Tensor | None, ...]:
        """Differentiate the weights row by row, made again if they were not kept."""
        query, value, gathered, left, sums, kept, *sources = ctx.saved_tensors
        key = ctx.make_keys(*sources).flatten(0, -3)
        masks: KeepMasks | None = ctx.masks
        of_query = torch.empty_like(query)
        of_key, of_value = torch.zeros_like(key), torch.zeros_like(value)
        # What softmax subtracts: the mean of the weights' gradients by the weights.
        means = (of_gathered * gathered).sum(dim=2, keepdim=True) + of_left * left
        scale = 1.0 if masks is None else masks.scale
        of_gathered, of_left = of_gathered * scale, of_left * scale
        if masks is not None:
            masks.restart()
        buffers = query.new_empty(3, min(NUM_ROWS, query.shape[1]), key.shape[1])
        for part in _parts(query, key, value):
            place = part.head, part.rows
            weights, remaining, of_weights = buffers[:, : len(part.query)]
            if kept is None:
                torch.mm(part.query, part.key.t(), out=weights)
                _mark_dropped(weights.sub_(sums[place]).exp_(), masks)
            else:
                weights = kept[place]
            torch.clamp_min(weights, 0, out=remaining)
            of_value[part.head].addmm_(remaining.t(), of_gathered[place])
            torch.mm(of_gathered[place], part.value.t(), out=of_weights)
            of_weights.add_(of_left[place])
            # What was dropped had no part in the result, but in the sum.
            torch.ops.aten.threshold_backward.grad_input(
                of_weights, weights, 0, grad_input=of_weights
            )
            of_logits = of_weights.sub_(means[place])
            of_logits.mul_(torch.abs(weights, out=remaining))
            of_key[part.head].addmm_(of_logits.t(), part.query)
            torch.mm(of_logits, part.key, out=of_query[place])
        of_query.mul_(query.shape[2] ** -0.5)
        return of_query, of_key, of_value, None


# Sides of the tiles of weights: they stay in the cache.
TILE_ROWS, TILE_COLUMNS = 256, 1024


def tile_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Scaled dot-product attention, one tile of its weights after another.

    The softmax is summed up on the way (Milakov and Gimelshein, 2018). torch's fast
    kernel for the CPU wants values as wide as the keys.

    Args:
        query: (..., N, C), on the CPU and without a graph.
        key: (..., L, C).
        value: (..., L, Cv).

    Returns:
        (..., N, Cv).
    """
    queries, keys, values = (
        tensor.flatten(0, -3).unbind() for tensor in (query, key, value)
    )
    gathered = [_gather(*head) for head in zip(queries, keys, values, strict=True)]
    restored: Tensor = torch.stack(gathered).unflatten(0, query.shape[:-2])
    return restored


def _gather(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention of one head, (N, Cv)."""
    # Several threads share a tile.
    num_rows = TILE_ROWS * torch.get_num_threads()
    query = query * query.shape[1] ** -0.5
    gathered = query.new_zeros(len(query), value.shape[1])
    highest = query.new_full((len(query), 1), -torch.inf)
    sums = torch.zeros_like(highest)
    buffer = query.new_empty(min(num_rows, len(query)) * min(TILE_COLUMNS, len(key)))
    for keys, values in zip(
        key.split(TILE_COLUMNS), value.split(TILE_COLUMNS), strict=True
    ):
        for start in range(0, len(query), num_rows):
            rows = slice(start, start + num_rows)
            some = query[rows]
            tile = buffer[: len(some) * len(keys)].view(len(some), len(keys))
            torch.mm(some, keys.t(), out=tile)
            high = torch.maximum(highest[rows], tile.amax(dim=1, keepdim=True))
            tile.sub_(high).exp_()
            # What was gathered before was measured against a lower maximum.
            shrink = highest[rows].sub_(high).exp_()
            sums[rows] = sums[rows].mul_(shrink).add_(tile.sum(dim=1, keepdim=True))
            gathered[rows].mul_(shrink).addmm_(tile, values)
            highest[rows] = high
    return gathered.div_(sums)
