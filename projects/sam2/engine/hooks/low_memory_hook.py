"""Trades time for memory in training (Chen et al., 2016)."""

from collections.abc import Sequence

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import nn

__all__ = ['SAM2LowMemoryHook']

RECOMPUTES = 'with_cp'
ENCODER = 'image_encoder'


@HOOKS.register_module()
class SAM2LowMemoryHook(Hook):
    """Switches activation checkpointing on, part by part.

    A part then keeps its inputs for the backward pass, and what it computed from them
    is computed again there. Results and gradients are the same.

    Args:
        parts: Names of modules of the model that know ``with_cp``, such as
            ``image_encoder.backbone``, ``tracker.memory_attention``,
            ``tracker.memory_encoder`` and ``mask_decoder``.
        frames_at_once: How many frames the image encoder takes at a time; None for
            all. With the backbone among the parts, its memory grows with these alone.
    """

    def __init__(
        self, *, parts: Sequence[str], frames_at_once: int | None = None
    ) -> None:
        self.parts = tuple(parts)
        self.frames_at_once = frames_at_once

    def before_train(self, runner: Runner) -> None:
        """Switch it on.

        Args:
            runner: Holds the model.

        Raises:
            ValueError: If the model has no such part.
        """
        model = runner.model
        self.apply(model.get_submodule('module') if is_model_wrapper(model) else model)

    def apply(self, model: nn.Module) -> None:
        """Switch it on in a model that no runner holds.

        Args:
            model: Not wrapped.

        Raises:
            ValueError: If the model has no such part.
        """
        able = {name: part for name, part in model.named_modules() if _can(part)}
        for name in self.parts:
            if name not in able:
                msg = f'{name!r} cannot compute twice; parts take some of {list(able)}'
                raise ValueError(msg)
            setattr(able[name], RECOMPUTES, True)
        if self.frames_at_once is not None:
            model.get_submodule(ENCODER).frames_at_once = self.frames_at_once  # type: ignore[assignment]  # an attribute of ours, no module


def _can(part: nn.Module) -> bool:
    """Whether a module knows how to compute twice."""
    return hasattr(part, RECOMPUTES)
