"""Freezes parts of a model by the names of their parameters."""

import copy
import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from mmengine.registry import TASK_UTILS
from torch import Tensor, nn

from ..checkpoints import is_adapter_key, to_plain_key
from ..ops import import_optional

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
        patterns: A name, or the beginning of one that ends at a dot, with ``*`` for
            any characters.

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
    """Modules of which nothing is trained."""
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


@TASK_UTILS.register_module()
class SAM2LowRankAdapters:
    """Trains, in place of a layer's matrix, a product of two thin ones beside it.

    The layers themselves are frozen, all else stays as it is. At first the model
    computes what it did before. Needs the package ``peft``.

    Args:
        layers: Names of linear layers or of modules, with ``*`` for any characters;
            of a module, all linear layers in it.
        rank: Of the product.
        alpha: The product counts ``alpha / rank`` times.
        dropout: Share of a layer's input that its adapter does not see in training.
        dora: Whether length and direction of the matrix's rows are adapted apart.
    """

    def __init__(
        self,
        *,
        layers: Sequence[str],
        rank: int = 8,
        alpha: int = 16,
        dropout: float = 0.0,
        dora: bool = False,
    ) -> None:
        self.layers = tuple(layers)
        self.rank = rank
        self.alpha = alpha
        self.dropout = dropout
        self.dora = dora

    def adapt(self, model: nn.Module) -> None:
        """Put the adapters in.

        Raises:
            ImportError: If ``peft`` is not installed, or cannot be imported.
            ValueError: If a pattern fits no linear layer.
        """
        peft = import_optional(
            'peft',
            purpose='SAM2LowRankAdapters',
            # Without a version, pip may exchange the torch that is there.
            install=f'"torch=={torch.__version__.partition("+")[0]}" peft',
        )
        linear = [
            name
            for name, module in model.named_modules()
            if isinstance(module, nn.Linear)
        ]
        names = sorted(chosen(linear, self.layers))
        trained = {n for n, one in model.named_parameters() if one.requires_grad}
        config = peft.LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            use_dora=self.dora,
            target_modules='|'.join(map(re.escape, names)),
        )
        peft.inject_adapter_in_model(config, model)
        # peft froze all but the adapters.
        for name, parameter in model.named_parameters():
            if name in trained:
                parameter.requires_grad_()


def merged_weights(model: nn.Module) -> dict[str, Tensor]:
    """What a model without adapters needs to compute what one with adapters does."""
    merged = copy.deepcopy(model)
    for module in merged.modules():
        if hasattr(module, 'base_layer'):
            layer: Any = module
            layer.merge(safe_merge=True)
    return {
        to_plain_key(key): value
        for key, value in merged.state_dict().items()
        if not is_adapter_key(key)
    }


def trained_weights(model: nn.Module) -> dict[str, Tensor]:
    """What training changes."""
    return {
        name: parameter.detach()
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }
