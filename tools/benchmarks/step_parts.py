"""Measures the share of each part of the model in a training step's forward pass."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from unittest.mock import patch

import torch
from plain_training import plain_way  # type: ignore[import-not-found]
from step_measurement import (  # type: ignore[import-not-found]
    Setting,
    build,
    make_clip,
    now,
)
from torch import Tensor, nn

from projects.sam2.models.layers import checkpointing

PARTS = (
    'image_encoder',
    'tracker.memory_attention',
    'tracker.memory_encoder',
    'prompt_encoder',
    'mask_decoder',
    'loss_module',
)


@dataclass(slots=True, kw_only=True)
class Parts:
    """Cost of the parts of the model in a step.

    Attributes:
        seconds: Time of the forward pass, by part.
        kept: Bytes saved for the backward pass, by part; ``'other'`` for the rest.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    kept: dict[str, int] = field(default_factory=dict)


def measure_parts(setting: Setting, way: str) -> Parts:
    """Measure time and saved bytes of each part in a forward pass.

    Args:
        way: One of ``WAYS``.
    """
    model, clip = build(setting, way), make_clip(setting)
    parts = Parts()
    known = {tensor.untyped_storage().data_ptr() for tensor in model.parameters()}
    kept: list[Tensor] = []  # keeps them alive, so that no address is reused
    running = ['other']

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            known.add(storage.data_ptr())
            kept.append(tensor)
            name = running[-1]
            parts.kept[name] = parts.kept.get(name, 0) + storage.nbytes()
        return tensor

    with (
        timed_parts(model, parts, running, setting.device),
        plain_way() if way == 'plain' else nullcontext(),
        torch.autocast(
            setting.device, torch.bfloat16, enabled=setting.dtype == 'bfloat16'
        ),
    ):
        with (
            torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
            # Where activations are recomputed, these hooks are not called.
            patch.object(checkpointing, 'keep', keep),
        ):
            model.loss(clip)
        kept.clear()
        # The hooks, and the first use of memory, slowed that pass down.
        parts.seconds.clear()
        model.loss(clip)
    return parts


@contextmanager
def timed_parts(
    model: nn.Module, parts: Parts, running: list[str], device: str
) -> Iterator[None]:
    """Add the time of calls of the model's parts to ``parts`` in a ``with`` block."""
    handles = []
    starts: list[float] = []

    def enter(name: str) -> None:
        running.append(name)
        starts.append(now(device))

    def leave() -> None:
        name = running.pop()
        parts.seconds[name] = parts.seconds.get(name, 0.0) + now(device) - starts.pop()

    for name in PARTS:
        part = model.get_submodule(name)
        handles += [
            part.register_forward_pre_hook(lambda *_, name=name: enter(name)),
            part.register_forward_hook(lambda *_: leave()),
        ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
