"""Freezing of parameters, and low-rank adapters (LoRA, DoRA)."""

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

MAX_NAMES = 8  # in an error message


@TASK_UTILS.register_module()
class SAM2Freezing:
    """Freezes parameters.

    This happens while the model is built, so that no graph, no gradient bucket of DDP
    and no optimizer state is created for them.

    Args:
        parts: Names of modules or parameters, such as ``image_encoder.backbone``, with
            ``*`` for any characters; a module stands for all of its parameters.
        but: Names of parameters among them that stay trainable.
    """

    def __init__(self, *, parts: Sequence[str], but: Sequence[str] = ()) -> None:
        self.parts = tuple(parts)
        self.but = tuple(but)

    def adapt(self, model: nn.Module) -> None:
        """Freeze the parameters of a model.

        Raises:
            ValueError: If a pattern matches nothing.
        """
        parameters = dict(model.named_parameters())
        trained = match_names(parameters, self.but)
        for name in match_names(parameters, self.parts) - trained:
            parameters[name].requires_grad = False


def match_names(names: Iterable[str], patterns: Sequence[str]) -> set[str]:
    """Select names by patterns.

    Args:
        patterns: Names, or prefixes of names up to a dot, with ``*`` for any
            characters.

    Raises:
        ValueError: If a pattern matches no name.
    """
    known, selected = list(names), set()
    for pattern in patterns:
        matches = {
            name
            for name in known
            if fnmatchcase(name, pattern) or fnmatchcase(name, f'{pattern}.*')
        }
        if not matches:
            tops = sorted({'.'.join(name.split('.')[:2]) for name in known})
            msg = (
                f'{pattern!r} fits nothing; names begin with '
                f'{", ".join(tops[:MAX_NAMES])}'
            )
            raise ValueError(msg)
        selected |= matches
    return selected


def frozen_modules(model: nn.Module) -> tuple[nn.Module, ...]:
    """Return the outermost modules whose parameters are all frozen."""
    frozen: list[nn.Module] = []
    queue = [model]
    while queue:
        module = queue.pop()
        parameters = list(module.parameters())
        if parameters and not any(p.requires_grad for p in parameters):
            frozen.append(module)
        elif parameters:
            queue += module.children()
    return tuple(frozen)


@TASK_UTILS.register_module()
class SAM2LowRankAdapters:
    """Adds low-rank adapters to linear layers (LoRA, Hu et al., 2022).

    The layers are frozen and their adapters trained; other parameters stay as they are.
    An untrained adapter does not change the output. Needs the package ``peft``.

    Args:
        layers: Names of linear layers or of modules, with ``*`` for any characters; a
            module stands for all of its linear layers.
        rank: Rank of the product of the two adapter matrices.
        alpha: The product is scaled by ``alpha / rank``.
        dropout: Dropout rate of the adapter's input in training.
        dora: Adapt magnitude and direction of the weights separately (DoRA).
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
        """Insert the adapters.

        Raises:
            ImportError: If ``peft`` is not installed, or cannot be imported.
            ValueError: If a pattern matches no linear layer.
        """
        peft = import_optional(
            'peft',
            purpose='SAM2LowRankAdapters',
            # Without a version, pip may replace the installed torch.
            install=f'"torch=={torch.__version__.partition("+")[0]}" peft',
        )
        linear = [
            name
            for name, module in model.named_modules()
            if isinstance(module, nn.Linear)
        ]
        names = sorted(match_names(linear, self.layers))
        trained = {n for n, p in model.named_parameters() if p.requires_grad}
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
    """Return the weights of an equivalent model without adapters."""
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
    """Return the parameters that training changes."""
    return {
        name: parameter.detach()
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }
