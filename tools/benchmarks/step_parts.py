"""What each part of the model has of the forward pass of a training step."""

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
    """What the parts of the model have of a step.

    Attributes:
        seconds: Of the forward pass, by part.
        kept: Bytes kept for the backward pass, by part; ``'other'`` for the rest.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    kept: dict[str, int] = field(default_factory=dict)


def measure_parts(setting: Setting, way: str) -> Parts:
    """Measure what the parts of the model have of a forward pass.

    Args:
        way: One of ``WAYS``.

    Returns:
        Seconds and kept bytes.
    """
    model, clip = build(setting, way), make_clip(setting)
    parts = Parts()
    known = {tensor.untyped_storage().data_ptr() for tensor in model.parameters()}
    kept: list[Tensor] = []  # or their places would be used again
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
        # That pass was slowed down by the hooks, and by memory that is touched first.
        parts.seconds.clear()
        model.loss(clip)
    return parts


@contextmanager
def timed_parts(
    model: nn.Module, parts: Parts, running: list[str], device: str
) -> Iterator[None]:
    """Time the calls of the model's parts meanwhile.

    Args:
        parts: Gets the seconds.
    """
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
