"""Tensors of which each process has a share, and the modules that they are in."""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any, NoReturn

from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

__all__ = ['leaves_of', 'outer_modules', 'refuse_copy', 'share', 'whole']


def refuse_copy(_: object) -> NoReturn:
    """Say what cannot be had, in place of torch's own error.

    Raises:
        TypeError: Always.
    """
    msg = (
        'A model in SAM2FullySharded cannot be copied, as EMAHook does; leave that '
        'hook out of custom_hooks, or use MMDistributedDataParallel'
    )
    raise TypeError(msg)


def outer_modules(module: nn.Module, patterns: Sequence[str]) -> list[nn.Module]:
    """Choose modules by their names.

    Args:
        module: Whole.
        patterns: Names, with ``*`` for any characters.

    Returns:
        Those that fit, but none within another that fits the same pattern.

    Raises:
        ValueError: If a pattern fits none.
    """
    named = dict(module.named_modules())
    found = []
    for pattern in patterns:
        fitting = [one for name, one in named.items() if fnmatchcase(name, pattern)]
        # `blocks.*` fits what is in a block as well.
        inner = {id(part) for one in fitting for part in [*one.modules()][1:]}
        outer = [one for one in fitting if id(one) not in inner]
        if not outer:
            names = ', '.join(list(named)[1:9])
            msg = f'{pattern!r} fits none of the modules, such as {names}; see parts'
            raise ValueError(msg)
        found += outer
    return found


def leaves_of(total: Tensor) -> set[int]:
    """Find what a backward pass reaches.

    Args:
        total: With a graph.

    Returns:
        Identities of the parameters.
    """
    found: set[int] = set()
    seen: set[Any] = set()
    waiting: list[Any] = [total.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, 'variable'):
            found.add(id(node.variable))
        waiting += [following for following, _ in node.next_functions]
    return found


def whole(value: Any) -> Any:  # noqa: ANN401  of a state dict
    """Gather a tensor, if it is one that is shared out.

    Args:
        value: Of a state dict.

    Returns:
        The whole.
    """
    return value.full_tensor() if isinstance(value, DTensor) else value


def share(value: Any, own: Tensor) -> Any:  # noqa: ANN401  as above
    """Take one's share of a tensor, if it belongs to one that is shared out.

    Args:
        value: Of a state dict.
        own: The parameter that it belongs to.

    Returns:
        The share.
    """
    is_other = isinstance(value, DTensor) or not isinstance(value, Tensor)
    if is_other or not isinstance(own, DTensor) or value.shape != own.shape:
        return value
    return distribute_tensor(value.to(own.device), own.device_mesh, own.placements)
