"""Activation checkpointing: less is kept for the backward pass, more is computed there.

A model has one setting, ``activation_checkpointing``, that a recipe sets for its card:

=================  =====================================================================
``False``          autograd keeps all that it needs
``True``           outputs of norms and activations, and other cheap results, are
                   recomputed from the inputs that are kept anyway
names of parts     as ``True``, and these parts (``image_encoder.backbone``) keep their
                   inputs alone and run a second time as wholes (Chen et al., 2016)
``'auto'``         ``True`` on a CPU, ``False`` elsewhere
=================  =====================================================================

Gradients are the same with each. What a compiler traces is left to the compiler.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial, wraps
from typing import Any, Literal, ParamSpec, TypeVar

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils import checkpoint as torch_checkpoint

P = ParamSpec('P')
R = TypeVar('R')
ActivationCheckpointing = bool | Literal['auto'] | Sequence[str]

# Smaller tensors are kept: they are not worth the time of a second call.
SMALLEST_BYTES = 2**20
# Attribute of the parts that can be recomputed as wholes, MMCV's name for it.
WITH_CP = 'with_cp'


def set_activation_checkpointing(
    model: nn.Module, setting: ActivationCheckpointing
) -> None:
    """Choose what the backward pass of a model recomputes.

    Raises:
        ValueError: If the model has no such part.
    """
    names: Sequence[str] = ()
    if not isinstance(setting, (bool, str)):
        names = tuple(setting)
    elif isinstance(setting, str) and setting != 'auto':
        msg = (
            f"activation_checkpointing is {setting!r}; give 'auto', True, False or a "
            f'list of parts'
        )
        raise ValueError(msg)
    parts = {name: m for name, m in model.named_modules() if hasattr(m, WITH_CP)}
    unknown = [name for name in names if name not in parts]
    if unknown:
        msg = f'{unknown[0]!r} cannot be recomputed; choose among {list(parts)}'
        raise ValueError(msg)
    for name, part in parts.items():
        setattr(part, WITH_CP, name in names)
    model.activation_checkpointing = setting  # type: ignore[assignment]  # no module


@contextmanager
def recompute_activations(model: nn.Module) -> Iterator[None]:
    """Run parts of a model with its setting for activation checkpointing."""
    setting: Any = model.activation_checkpointing
    on_cpu = next(model.parameters()).device.type == 'cpu'
    if setting is False or (setting == 'auto' and not on_cpu):
        yield
    else:
        with recompute_cheap_results():
            yield


def checkpoint(
    function: Callable[..., R], *args: Any, enabled: bool | None = None, **kwargs: Any
) -> R:
    """Call a function and keep only its arguments for the backward pass.

    The backward pass calls it again, with the same random numbers, up to the last
    tensor that it needs: a linear layer at the end runs once.

    Args:
        function: A module or a function without side effects.
        enabled: By default, whether the setting of the model is on and the first
            argument is large.
    """
    # A compiler decides itself what to recompute.
    if torch.compiler.is_compiling() or not torch.is_grad_enabled():
        return function(*args, **kwargs)
    if enabled is None:
        is_small = isinstance(args[0], Tensor) and args[0].nbytes < SMALLEST_BYTES
        enabled = _cheap_results.get() is not None and not is_small
    if not enabled:
        return function(*args, **kwargs)

    def call_plainly(*args: Any, **kwargs: Any) -> R:
        # Both calls must save the same tensors, so neither has checkpoints inside.
        token = _cheap_results.set(None)
        try:
            return function(*args, **kwargs)
        finally:
            _cheap_results.reset(token)

    result: R = torch_checkpoint.checkpoint(
        call_plainly, *args, use_reentrant=False, **kwargs
    )
    return result


# Cheap results. A linear layer keeps its input, say a normed map, for the backward
# pass. While `recompute_cheap_results` is active, norms and activations record the call
# that computes their output. If autograd saves a tensor in the memory of such an
# output, the record is saved instead, and the output is freed. Model and layers do not
# notice.

_cheap_results: ContextVar['list[_Result] | None'] = ContextVar(
    '_cheap_results', default=None
)


@contextmanager
def recompute_cheap_results() -> Iterator[None]:
    """Keep no large result for the backward pass that is cheap to recompute."""
    token = _cheap_results.set([])
    try:
        with torch.autograd.graph.saved_tensors_hooks(_pack, _unpack):
            yield
    finally:
        _cheap_results.reset(token)


def recomputable(function: Callable[P, Tensor]) -> Callable[P, Tensor]:
    """Declare that the result of a function is cheap to recompute.

    Its tensor arguments are kept instead, so they should be kept anyway.
    """

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> Tensor:
        output = function(*args, **kwargs)
        _record_call(output, partial(function, **kwargs), args)
        return output

    return call


def recompute_output(module: nn.Module) -> None:
    """Declare that the output of a layer is cheap to recompute from its input."""
    module.register_forward_hook(_record_output)


def recompute_norms_and_activations(model: nn.Module) -> None:
    """Declare that all norms and activations of a model are cheap to recompute."""
    for module in model.modules():
        if isinstance(module, (nn.LayerNorm, nn.GELU)):
            recompute_output(module)


def _record_output(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
    """Record the call of a module, as its forward hook."""
    # The weights of this forward pass, even if the module has others in the backward.
    weights = dict(module.named_parameters())
    names, num_args = tuple(weights), len(args)

    def call(*inputs: Any) -> Any:
        values = dict(zip(names, inputs[num_args:], strict=True))
        return functional_call(module, values, inputs[:num_args])

    _record_call(output, call, (*args, *weights.values()))


def _record_call(
    output: Tensor, function: Callable[..., Any], args: tuple[Any, ...]
) -> None:
    """Record the call that an output comes from."""
    if torch.compiler.is_compiling() or not output.requires_grad:
        return
    results = _cheap_results.get()
    if results is not None and output.nbytes >= SMALLEST_BYTES:
        tensors = [arg for arg in args if isinstance(arg, Tensor)]
        if _address(output) in map(_address, tensors):
            return  # a view of an argument, which is kept anyway
        results[:] = [result for result in results if not result.storage.expired()]
        results.append(_Result(output, function, args))


class _Result:
    """The call that a tensor comes from."""

    def __init__(
        self, output: Tensor, function: Callable[..., Any], args: tuple[Any, ...]
    ) -> None:
        self.address = _address(output)
        self.version = output._version  # noqa: SLF001  as autograd itself counts
        # Tells whether the output still exists: its address may be used again.
        self.storage = StorageWeakRef(output.untyped_storage())
        self.function = function
        # Arguments may be results themselves.
        self.args = [_pack(arg) if isinstance(arg, Tensor) else arg for arg in args]
        device = output.device.type
        self.autocast = torch.autocast(
            device,
            torch.get_autocast_dtype(device),
            enabled=torch.is_autocast_enabled(device),
        )

    def compute(self) -> Tensor:
        """Compute the tensor again."""
        args = [
            _unpack(arg) if isinstance(arg, (_Kept, _View)) else arg
            for arg in self.args
        ]
        with torch.no_grad(), self.autocast:
            result: Tensor = self.function(*args)
        return result


class _Kept:
    """A tensor that is kept as it is."""

    def __init__(self, tensor: Tensor) -> None:
        # An output that is kept with its graph would never be freed.
        self.tensor = keep(tensor).detach()
        self.version = tensor._version  # noqa: SLF001  as autograd itself checks it


class _View:
    """A tensor in the memory of a result, that is recomputed with it."""

    def __init__(self, tensor: Tensor, result: _Result) -> None:
        self.result = result
        self.geometry = tensor.size(), tensor.stride(), tensor.storage_offset()


def _pack(tensor: Tensor) -> _Kept | _View:
    """Save the call that a tensor comes from, if it is recorded, else the tensor."""
    results = _cheap_results.get()
    if results and tensor.untyped_storage().nbytes() >= SMALLEST_BYTES:
        address = _address(tensor)
        for result in results:
            if (
                result.address == address
                and not result.storage.expired()
                # What was changed in place since is no longer what the call gives.
                and result.version == tensor._version  # noqa: SLF001
            ):
                return _View(tensor, result)
    return _Kept(tensor)


def _unpack(packed: _Kept | _View) -> Tensor:
    """Return a saved tensor."""
    if isinstance(packed, _View):
        return packed.result.compute().as_strided(*packed.geometry)
    if packed.tensor._version != packed.version:  # noqa: SLF001
        msg = (
            'A tensor that the backward pass needs was modified by an inplace '
            'operation; modify a copy, or set activation_checkpointing=False to learn '
            'from autograd which one'
        )
        raise RuntimeError(msg)
    return packed.tensor


def _address(tensor: Tensor) -> int:
    """Address of the memory of a tensor, which its views share."""
    return tensor.untyped_storage().data_ptr()


def keep(tensor: Tensor) -> Tensor:
    """Keep a tensor for the backward pass; tools count these calls."""
    return tensor
