"""Freezes parts of a model by the names of their parameters."""

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from mmengine.registry import TASK_UTILS
from torch import nn

__all__ = ['SAM2Freezing', 'chosen', 'frozen_modules']

MAX_NAMED = 8


@TASK_UTILS.register_module()
class SAM2Freezing:
    """Leaves parameters as they are loaded: they need no gradient.

    It works while the model is built, so that neither a graph, nor a bucket of
    gradients, nor state of the optimizer is ever made for them.

    Args:
        parts: Names of modules or parameters, ``image_encoder.backbone`` say, with
            ``*`` for any characters; a module stands for all that is in it.
        but: Of these, what is trained all the same.
    """

    def __init__(self, *, parts: Sequence[str], but: Sequence[str] = ()) -> None:
        self.parts = tuple(parts)
        self.but = tuple(but)

    def adapt(self, model: nn.Module) -> None:
        """Freeze.

        Args:
            model: Whole, but not wrapped.

        Raises:
            ValueError: If a pattern fits nothing.
        """
        parameters = dict(model.named_parameters())
        kept = chosen(parameters, self.but)
        for name in chosen(parameters, self.parts) - kept:
            parameters[name].requires_grad = False


def chosen(names: Iterable[str], patterns: Sequence[str]) -> set[str]:
    """Choose names by patterns.

    Args:
        names: With dots.
        patterns: A name, or the beginning of one that ends at a dot, with ``*`` for
            any characters.

    Returns:
        Those that fit one of the patterns.

    Raises:
        ValueError: If a pattern fits none.
    """
    known, found = list(names), set()
    for pattern in patterns:
        fitting = {
            name
            for name in known
            if fnmatchcase(name, pattern) or fnmatchcase(name, f'{pattern}.*')
        }
        if not fitting:
            tops = sorted({'.'.join(name.split('.')[:2]) for name in known})
            msg = (
                f'{pattern!r} fits nothing; names begin with '
                f'{", ".join(tops[:MAX_NAMED])}'
            )
            raise ValueError(msg)
        found |= fitting
    return found


def frozen_modules(model: nn.Module) -> tuple[nn.Module, ...]:
    """Modules of which nothing is trained.

    Args:
        model: Adapted.

    Returns:
        The largest ones; those without parameters do not count.
    """
    found: list[nn.Module] = []
    waiting = [model]
    while waiting:
        module = waiting.pop()
        parameters = list(module.parameters())
        if parameters and not any(one.requires_grad for one in parameters):
            found.append(module)
        elif parameters:
            waiting += module.children()
    return tuple(found)
