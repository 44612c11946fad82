"""Kernels for a CPU: attention, dropout and batches of a size that suits it.

The model calls ``attend`` (``attention.py``), ``Dropout`` and ``ReLUDropout``
(``mlp.py``), which choose between these kernels and those of torch.
"""

from collections.abc import Callable, Iterator
from contextvars import ContextVar
from functools import cache
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


# --- Products of matrices ---

# Below this number of products the call of oneDNN takes longer than it saves.
FEW_PRODUCTS = 2**18


def multiplies_by_onednn(tensor: Tensor) -> bool:
    """Whether :func:`multiply` gains from oneDNN's kernels, in place of torch's choice.

    For float32 torch calls MKL, which does not use AVX-512 on processors of AMD: there
    oneDNN is twice as fast. Without a graph, since its kernels record no gradients.
    """
    if not tensor.is_cpu or torch.is_grad_enabled() or torch.compiler.is_compiling():
        return False
    if tensor.dtype is torch.bfloat16:
        return supports_bfloat16()
    is_float32 = tensor.dtype is torch.float32
    return (
        is_float32 and _has_onednn('avx512_f') and not torch.is_autocast_enabled('cpu')
    )


def prefers_bfloat16(tensor: Tensor) -> bool:
    """Whether products of a tensor gain from bfloat16."""
    return supports_bfloat16() and (
        tensor.dtype is torch.bfloat16 or multiplies_by_onednn(tensor)
    )


def supports_bfloat16() -> bool:
    """Whether the CPU multiplies matrices of bfloat16 faster than those of float32."""
    return _has_onednn('avx512_bf16') or _has_onednn('amx_tile')


@cache
def _has_onednn(instructions: str) -> bool:
    is_supported = bool(torch.cpu.get_capabilities().get(instructions, False))
    return is_supported and torch.backends.mkldnn.is_available()


def multiply(rows: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Multiply rows by the weights of a linear layer: (..., C), (D, C) -> (..., D)."""
    # Sizes come last: a compiler would compile again where one exceeds the limit.
    if (
        multiplies_by_onednn(rows)
        and rows.dtype == weight.dtype
        and rows.numel() * len(weight) >= FEW_PRODUCTS
    ):
        # The operator that torch.compile puts in place of a linear layer.
        product: Tensor = torch.ops.mkldnn._linear_pointwise(  # noqa: SLF001
            rows, weight, bias, 'none', [], ''
        )
        return product
    return functional.linear(rows, weight, bias)


# --- Attention ---

# Below this number of attention weights torch's kernel is faster than ours.
FEW_WEIGHTS = 2**18


def prefers_narrow_values(query: Tensor, key: Tensor, dropout: float) -> bool:
    """Whether :func:`attention` gains from values with fewer channels than the keys.

    Args:
        query: (O, heads, N, C).
        key: (O, heads, L, C).
    """
    if dropout:
        return is_plain_cpu(query)
    return suits(query) and _is_large(query, key)


def _is_large(query: Tensor, key: Tensor) -> bool:
    return query.shape[-2] * key.shape[-2] >= FEW_WEIGHTS


def suits(query: Tensor, mask: Tensor | None = None) -> bool:
    """Whether :func:`attention` takes queries of this type."""
    is_suitable = is_plain_cpu(query) or multiplies_by_onednn(query)
    return is_suitable and mask is None


def attention(query: Tensor, key: Tensor, value: Tensor, dropout: float) -> Tensor:
    """Scaled dot-product attention.

    torch's fast kernel for CPUs supports neither dropout nor values whose width differs
    from that of the keys, and its slow one keeps three copies of the attention weights.
    Without a graph the products of :func:`multiply` make up for a second pass over the
    weights.

    Args:
        query: For each object or one for all, (O | 1, heads, N, C).
        key: (O | 1, heads, L, C).
        value: (O | 1, heads, L, Cv).
        dropout: Probability to drop an attention weight.

    Returns:
        (O, heads, N, Cv).
    """
    num_objects = max(len(query), len(key))
    query, key, value = (
        tensor.expand(num_objects, -1, -1, -1) for tensor in (query, key, value)
    )
    needs_graph = torch.is_grad_enabled()
    is_usual = not dropout and value.shape[-1] == key.shape[-1]
    if is_usual and (needs_graph or not _is_large(query, key)):
        if query.dtype is torch.bfloat16 and not needs_graph:
            # Windows, for which the blocks of torch's kernel are too large.
            return map_in_chunks(
                _attention_by_products,
                query,
                key,
                value,
                object_size=query.shape[1] * query.shape[2] * key.shape[2],
                max_bytes=MAX_CACHED_BYTES,
            )
        return functional.scaled_dot_product_attention(query, key, value)
    heads = query.shape[:-2]
    query, key, value = (tensor.flatten(0, -3) for tensor in (query, key, value))
    if dropout or needs_graph:
        masks = DropoutMasks(draw_seed(), dropout) if dropout else None
        output: Tensor = _RowAttention.apply(query, key, value, masks)  # type: ignore[no-untyped-call]  # torch
    else:
        output = torch.stack([*map(_attention_by_rows, query, key, value)])
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


def _attention_by_products(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """(O, heads, N, C), (O, heads, L, C), (O, heads, L, C) -> (O, heads, N, C)."""
    weights = (query * query.shape[-1] ** -0.5) @ key.mT  # (O, heads, N, L)
    attended: Tensor = weights.softmax(dim=-1) @ value
    return attended


# Attention weights that are computed at a time without a graph: they fit into the
# cache.
ROWS_AT_ONCE = 256
KEYS_AT_ONCE = 4096


def _attention_by_rows(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention of one head without a graph, one block of weights at a time.

    Args:
        query: (N, C).
        key: (L, C).
        value: (L, Cv).

    Returns:
        (N, Cv).
    """
    query = query * query.shape[1] ** -0.5
    columns = value.t().to(query.dtype)  # (Cv, L), as weights of a layer
    blocks = [
        (keys.contiguous(), block.contiguous())  # oneDNN is slow with strides
        for keys, block in zip(
            key.split(KEYS_AT_ONCE), columns.split(KEYS_AT_ONCE, dim=1), strict=True
        )
    ]
    rows = [_attend_to_blocks(queries, blocks) for queries in query.split(ROWS_AT_ONCE)]
    return torch.cat(rows)


def _attend_to_blocks(queries: Tensor, blocks: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Attend to blocks of keys, whose softmax is summed up (Milakov et al., 2018).

    Args:
        queries: (R, C).
        blocks: Keys, (L, C), and the columns of their values, (Cv, L).

    Returns:
        (R, Cv).
    """
    sum_type = torch.promote_types(queries.dtype, torch.float32)
    largest = queries.new_full((len(queries), 1), -torch.inf)
    total = queries.new_zeros(len(queries), 1, dtype=sum_type)
    gathered = queries.new_zeros(len(queries), len(blocks[0][1]), dtype=sum_type)
    for keys, columns in blocks:
        logits = multiply(queries, keys)  # (R, L)
        previous, largest = largest, largest.maximum(logits.amax(dim=1, keepdim=True))
        weights = logits.sub_(largest).exp_()
        scale = (previous - largest).to(sum_type).exp()
        total.mul_(scale).add_(weights.sum(dim=1, keepdim=True, dtype=sum_type))
        gathered.mul_(scale).add_(multiply(weights, columns))
    return (gathered / total).to(queries.dtype)


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


# Hidden units of a block of rows that fit into the cache of a core.
MAX_CACHED_BYTES = 2**21


def map_in_chunks(
    function: Callable[..., Tensor],
    *batches: Tensor,
    object_size: int,
    max_bytes: int | None = None,
) -> Tensor:
    """Apply a function to batches of objects; in chunks on a CPU without a graph.

    Args:
        function: Takes batches (O, ...) and returns a batch (O, ...).
        object_size: Number of elements of an object in the largest tensor inside.
        max_bytes: Limit of this tensor, by default ``MAX_TENSOR_BYTES``.
    """
    slices = object_slices(batches[0], object_size=object_size, max_bytes=max_bytes)
    if len(slices) <= 1:
        return function(*batches)
    token = _casts.set({})
    try:
        return torch.cat([function(*(batch[c] for batch in batches)) for c in slices])
    finally:
        _casts.reset(token)


# Weights that the chunks of a call share in bfloat16. They are not kept any longer:
# a change through `weight.data`, as MMEngine's EMAHook makes it, leaves no trace.
_casts: ContextVar[dict[Tensor, Tensor] | None] = ContextVar('casts', default=None)


def cast_weight(weight: Tensor) -> Tensor:
    """Cast a weight to bfloat16; once for all chunks of :func:`map_in_chunks`."""
    casts = None if torch.compiler.is_compiling() else _casts.get()
    if casts is None:
        return weight.to(torch.bfloat16)
    if weight not in casts:
        casts[weight] = weight.to(torch.bfloat16)
    return casts[weight]


def object_slices(
    batch: Tensor, *, object_size: int, max_bytes: int | None = None
) -> list[slice]:
    """Divide a batch of objects into chunks on a CPU without a graph, else into one.

    Args:
        batch: (O, ...).
        object_size: As for :func:`map_in_chunks`, as is ``max_bytes``.
    """
    if not _needs_chunks(batch):
        return [slice(None)]
    object_bytes = object_size * batch.element_size()
    chunk_size = max(((max_bytes or MAX_TENSOR_BYTES) - 1) // object_bytes, 1)
    return [slice(i, i + chunk_size) for i in range(0, len(batch), chunk_size)]


def without_copies(batch: Tensor) -> Tensor:
    """Reduce a batch that was expanded from one row to that row, on a CPU.

    What is equal for all objects is then computed once. Not with a graph: the order
    in which gradients are added up would change.

    Args:
        batch: (O, ...).
    """
    if _needs_chunks(batch) and len(batch) > 1 and batch.stride(0) == 0:
        return batch[:1]
    return batch


def map_rows(
    function: Callable[[Tensor], Tensor], rows: Tensor, *, row_size: int
) -> Tensor:
    """Apply a function to rows (N, C); on a CPU in blocks that stay in the cache.

    Args:
        function: Maps each row independently.
        row_size: Number of elements of a row in the largest tensor inside.
    """
    if not _needs_chunks(rows):
        return function(rows)
    max_bytes = MAX_CACHED_BYTES * torch.get_num_threads()  # each has a cache
    return map_in_chunks(function, rows, object_size=row_size, max_bytes=max_bytes)


def _needs_chunks(batch: Tensor) -> bool:
    # A traced graph must take any number of objects.
    is_traced = torch.compiler.is_compiling()
    return batch.is_cpu and not torch.is_grad_enabled() and not is_traced
