"""Kernels for a CPU: attention, dropout and batches of a size that suits it.

The model calls ``attend`` (``attention.py``), ``Dropout`` and ``ReLUDropout``
(``mlp.py``), which choose between these kernels and those of torch.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional


def is_plain_cpu(tensor: Tensor) -> bool:
    """Whether the kernels of this file work on a tensor."""
    is_precise = tensor.dtype in (torch.float32, torch.float64)
    return is_precise and tensor.is_cpu and not torch.compiler.is_compiling()


# --- Attention ---

# Below this number of attention weights, torch's kernel for values as wide as the keys
# is faster than ours for narrow values.
FEW_WEIGHTS = 2**18


def prefers_narrow_values(query: Tensor, key: Tensor, dropout: float) -> bool:
    """Whether :func:`attention` gains from values with fewer channels than the keys.

    Args:
        query: (O, heads, N, C).
        key: (O, heads, L, C).
    """
    is_large = query.shape[-2] * key.shape[-2] >= FEW_WEIGHTS
    return is_plain_cpu(query) and (dropout > 0 or is_large)


def attention(query: Tensor, key: Tensor, value: Tensor, dropout: float) -> Tensor:
    """Scaled dot-product attention.

    torch's fast kernel for CPUs supports neither dropout nor values whose width differs
    from that of the keys, and its slow one keeps three copies of the attention weights.

    Args:
        query: (O, heads, N, C).
        key: (O, heads, L, C).
        value: (O, heads, L, Cv).
        dropout: Probability to drop an attention weight.

    Returns:
        (O, heads, N, Cv).
    """
    if not dropout and value.shape[-1] == key.shape[-1]:
        return functional.scaled_dot_product_attention(query, key, value)
    heads = query.shape[:-2]
    query, key, value = (tensor.flatten(0, -3) for tensor in (query, key, value))
    if dropout or torch.is_grad_enabled():
        masks = DropoutMasks(draw_seed(), dropout) if dropout else None
        output: Tensor = _RowAttention.apply(query, key, value, masks)  # type: ignore[no-untyped-call]  # torch
    else:
        output = torch.stack([*map(_tile_attention, query, key, value)])
    restored: Tensor = output.unflatten(0, heads)
    return restored


# Rows of attention weights that are computed at a time: they fit into the cache.
NUM_ROWS = 256
# Attention weights up to this size are kept for the backward pass; larger ones, which
# would fill the memory, are recomputed there.
KEPT_BYTES = 2**24


class _RowAttention(torch.autograd.Function):
    """Attention with dropout, one block of rows of attention weights at a time.

    Dropped weights get a negative sign: the gradient of the softmax needs their size,
    the output does not.
    """

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        masks: 'DropoutMasks | None',
    ) -> Tensor:
        """(heads, N, C), (heads, L, C), (heads, L, Cv) -> (heads, N, Cv)."""
        num_heads, num_queries, channels = query.shape
        shape = num_heads, num_queries, key.shape[1]
        output = query.new_empty(*shape[:2], value.shape[2])
        logsumexp = query.new_empty(*shape[:2], 1)
        is_small = shape[1] * shape[2] * query.element_size() <= KEPT_BYTES
        kept = query.new_empty(shape) if is_small else None
        buffers = query.new_empty(2, min(NUM_ROWS, shape[1]), shape[2])
        for head, rows in _row_blocks(num_heads, num_queries):
            queries = query[head, rows] * channels**-0.5  # (R, C)
            weights, remaining = buffers[:, : len(queries)]  # (R, L)
            if kept is not None:
                weights = kept[head, rows]
            torch.mm(queries, key[head].t(), out=weights)
            torch.logsumexp(weights, dim=1, keepdim=True, out=logsumexp[head, rows])
            weights.sub_(logsumexp[head, rows]).exp_()
            if masks is None:
                remaining = weights
            else:
                masks.negate_dropped_(weights)
                torch.clamp_min(weights, 0, out=remaining)
            torch.mm(remaining, value[head], out=output[head, rows])
        if masks is not None:
            output.mul_(masks.scale)
        ctx.save_for_backward(query, key, value, output, logsumexp, kept)
        ctx.masks = masks
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, output, logsumexp, kept = ctx.saved_tensors
        masks: DropoutMasks | None = ctx.masks
        num_heads, num_queries, channels = query.shape
        grad_query = torch.empty_like(query)
        grad_key, grad_value = torch.zeros_like(key), torch.zeros_like(value)
        # The gradient of the softmax subtracts the mean gradient of the weights,
        # weighted by them, which equals this sum over channels.
        mean_grad = (grad_output * output).sum(dim=2, keepdim=True)
        if masks is not None:
            grad_output = grad_output * masks.scale
            masks.restart()
        buffers = query.new_empty(3, min(NUM_ROWS, num_queries), key.shape[1])
        for head, rows in _row_blocks(num_heads, num_queries):
            queries = query[head, rows] * channels**-0.5  # (R, C)
            weights, remaining, grad_weights = buffers[:, : len(queries)]  # (R, L)
            if kept is not None:
                weights = kept[head, rows]
            else:
                torch.mm(queries, key[head].t(), out=weights)
                weights.sub_(logsumexp[head, rows]).exp_()
                if masks is not None:
                    masks.negate_dropped_(weights)
            torch.clamp_min(weights, 0, out=remaining)
            grad_value[head].addmm_(remaining.t(), grad_output[head, rows])
            torch.mm(grad_output[head, rows], value[head].t(), out=grad_weights)
            if masks is not None:
                # Dropped weights get no gradient from the output.
                torch.ops.aten.threshold_backward.grad_input(
                    grad_weights, weights, 0, grad_input=grad_weights
                )
            grad_logits = grad_weights.sub_(mean_grad[head, rows])
            grad_logits.mul_(torch.abs(weights, out=remaining))
            grad_key[head].addmm_(grad_logits.t(), queries)
            torch.mm(grad_logits, key[head], out=grad_query[head, rows])
        return grad_query.mul_(channels**-0.5), grad_key, grad_value, None


def _row_blocks(num_heads: int, num_rows: int) -> Iterator[tuple[int, slice]]:
    """Blocks of rows of all heads: head and slice of its rows."""
    for head in range(num_heads):
        for start in range(0, num_rows, NUM_ROWS):
            yield head, slice(start, min(start + NUM_ROWS, num_rows))


# Sides of the tiles of attention weights: they fit into the cache.
TILE_ROWS, TILE_COLUMNS = 256, 1024


def _tile_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention of one head without a graph, one tile of its weights after another.

    The softmax is accumulated over the tiles of a row (Milakov and Gimelshein, 2018).

    Args:
        query: (N, C).
        key: (L, C).
        value: (L, Cv).

    Returns:
        (N, Cv).
    """
    num_rows = TILE_ROWS * torch.get_num_threads()  # the threads share a tile
    query = query * query.shape[1] ** -0.5
    output = query.new_zeros(len(query), value.shape[1])
    row_max = query.new_full((len(query), 1), -torch.inf)
    row_sum = torch.zeros_like(row_max)
    buffer = query.new_empty(min(num_rows, len(query)) * min(TILE_COLUMNS, len(key)))
    for keys, values in zip(
        key.split(TILE_COLUMNS), value.split(TILE_COLUMNS), strict=True
    ):
        for start in range(0, len(query), num_rows):
            rows = slice(start, start + num_rows)
            queries = query[rows]
            shape = len(queries), len(keys)
            weights = buffer[: shape[0] * shape[1]].view(shape)
            torch.mm(queries, keys.t(), out=weights)
            new_max = torch.maximum(row_max[rows], weights.amax(dim=1, keepdim=True))
            weights.sub_(new_max).exp_()
            # Earlier tiles were measured against a lower maximum.
            correction = row_max[rows].sub_(new_max).exp_()
            row_sum[rows].mul_(correction).add_(weights.sum(dim=1, keepdim=True))
            output[rows].mul_(correction).addmm_(weights, values)
            row_max[rows] = new_max
    return output.div_(row_sum)


# --- Dropout ---

# Random numbers have 16 bits: rates are exact to 1 / 65536.
NUM_LEVELS = 65536
NUMBERS_PER_WORD = 4  # 16-bit numbers in a 64-bit word
# Elements that are dropped at a time: a multiple of the words that fits into the cache.
BLOCK_SIZE = 2**17


def dropout(tensor: Tensor, rate: float) -> Tensor:
    """Dropout that keeps a seed for the backward pass, in place of a mask."""
    dropped: Tensor = _Dropout.apply(tensor, DropoutMasks(draw_seed(), rate))  # type: ignore[no-untyped-call]  # torch
    return dropped


def dropout_(tensor: Tensor, rate: float) -> Tensor:
    """Dropout in place, without a graph."""
    return DropoutMasks(draw_seed(), rate).drop_(tensor)


def draw_seed() -> int:
    """Draw a seed from torch's random stream, which checkpoints save and restore."""
    return int(torch.randint(2**62, ()).item())


class DropoutMasks:
    """Dropout masks that can be drawn again from a seed.

    Ten times as fast on a CPU as torch's Bernoulli numbers.

    Args:
        seed: The same seed gives the same masks in the same order.
        rate: Probability to drop an element, in [0, 1).
    """

    def __init__(self, seed: int, rate: float) -> None:
        self._seed = seed
        self._threshold = round(rate * NUM_LEVELS)
        self.scale = 1 / (1 - rate)  # of the elements that remain
        self.restart()

    def restart(self) -> None:
        """Restart with the first mask."""
        self._generator = np.random.SFC64(self._seed)

    def draw(self, count: int) -> NDArray[np.bool_]:
        """Draw the next mask, (count,), True for elements that remain."""
        words = self._generator.random_raw(-(-count // NUMBERS_PER_WORD))
        return words.view(np.uint16)[:count] >= self._threshold

    def drop_(self, tensor: Tensor) -> Tensor:
        """Drop elements of a contiguous tensor and scale the others, in place."""
        elements = tensor.mul_(self.scale).view(-1).numpy()
        for start in range(0, len(elements), BLOCK_SIZE):
            block = elements[start : start + BLOCK_SIZE]
            # NumPy multiplies by booleans faster than torch does, or fills by a mask.
            np.multiply(block, self.draw(len(block)), out=block)
        return tensor

    def negate_dropped_(self, tensor: Tensor) -> Tensor:
        """Negate the dropped elements, in place."""
        elements = tensor.view(-1).numpy()
        signs = self.draw(len(elements)).view(np.int8) * np.int8(2) - np.int8(1)
        np.multiply(elements, signs, out=elements)
        return tensor


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor, masks: DropoutMasks) -> Tensor:
        ctx.masks = masks
        return masks.drop_(tensor.clone(memory_format=torch.contiguous_format))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        masks: DropoutMasks = ctx.masks
        masks.restart()
        copy = gradient.clone(memory_format=torch.contiguous_format)
        return masks.drop_(copy), None


# --- Batches ---

# For each larger tensor the C library maps memory and unmaps it again: on a CPU that
# costs more than a batch saves.
MAX_TENSOR_BYTES = 2**25


def map_in_chunks(
    function: Callable[..., Tensor], *batches: Tensor, object_size: int
) -> Tensor:
    """Apply a function to batches of objects; in chunks on a CPU without a graph.

    Args:
        function: Takes batches (O, ...) and returns a batch (O, ...).
        object_size: Number of elements of an object in the largest tensor inside.
    """
    batch = batches[0]
    # A traced graph must take any number of objects.
    if torch.is_grad_enabled() or not batch.is_cpu or torch.compiler.is_compiling():
        return function(*batches)
    object_bytes = object_size * batch.element_size()
    chunk_size = max((MAX_TENSOR_BYTES - 1) // object_bytes, 1)
    if chunk_size >= len(batch):
        return function(*batches)
    chunks = zip(*(batch.split(chunk_size) for batch in batches), strict=True)
    return torch.cat([function(*chunk) for chunk in chunks])
