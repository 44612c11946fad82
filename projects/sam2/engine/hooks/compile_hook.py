"""Compiles parts of the model for training."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from time import perf_counter
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import nn

__all__ = ['SAM2CompileHook']

# Of a part: shapes, training and evaluation, with a graph and without.
NUM_VARIANTS = 8


@HOOKS.register_module()
class SAM2CompileHook(Hook):
    """Compiles regions with ``torch.compile``, and lets them warm up.

    What surrounds them (the choice of memories, prompts, the loss) runs as it is.
    Results differ by rounding. Compiling needs a C++ compiler, on a GPU Triton as well.

    Args:
        static: Names of modules whose inputs have the same shape in every step, with
            ``*`` for any characters: ``image_encoder.backbone.blocks.*``.
        dynamic: Those whose inputs vary in length: the memory grows from frame to
            frame, and clips differ in their number of objects.
        warm_up: Before the first step its batch is run forward and backward with the
            prompts of as many steps as this, so that what they need is compiled by
            then. Weights, gradients and random streams stay as they are.

    Raises:
        ValueError: In ``before_train``, if a name fits no module.
    """

    def __init__(
        self,
        *,
        static: Sequence[str] = (),
        dynamic: Sequence[str] = (),
        warm_up: int = 0,
    ) -> None:
        self.static = tuple(static)
        self.dynamic = tuple(dynamic)
        self.warm_up = warm_up
        self._is_warm = warm_up == 0

    def before_train(self, runner: Runner) -> None:
        """Compile, which happens when a part is first called."""
        self.apply(_bare(runner))

    def apply(self, model: nn.Module) -> None:
        """Compile parts of a model that no runner holds.

        Raises:
            ValueError: If a name fits no module.
        """
        parts = [
            (part, is_dynamic)
            for patterns, is_dynamic in ((self.static, False), (self.dynamic, True))
            for part in _named(model, patterns)
        ]
        _allow_variants(NUM_VARIANTS * len(parts))
        for part, is_dynamic in parts:
            part.compile(dynamic=is_dynamic)

    def before_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
    ) -> None:
        """Warm up before the first step."""
        if self._is_warm:
            return
        self._is_warm = True
        start, hub, first = perf_counter(), runner.message_hub, runner.iter
        with torch.random.fork_rng(range(torch.cuda.device_count())):
            for step in range(first, first + self.warm_up):
                # The model takes its prompts from the step.
                hub.update_info('iter', step)
                _run_through(runner, data_batch)
        hub.update_info('iter', first)
        runner.logger.info(
            'Compiled parts have warmed up, in %.0f s', perf_counter() - start
        )


def _allow_variants(number: int) -> None:
    """Let all parts be compiled.

    torch counts what it compiles of a method, which all blocks of the backbone share,
    and runs what is beyond its limit, 8 at first, as it is.
    """
    import torch._dynamo.config as settings  # noqa: PLC0415  takes half a second

    # Their newer names, recompile_limit and the like, are unknown to torch 2.5.
    for name in ('cache_size_limit', 'accumulated_cache_size_limit'):
        limit = max(number, getattr(settings, name))
        setattr(settings, name, limit)


def _run_through(runner: Runner, data_batch: object) -> None:
    """Go forward and backward, and forget the gradients."""
    wrapper: Any = runner.optim_wrapper
    model = _bare(runner)
    with wrapper.optim_context(model), _unobserved(getattr(model, 'loss_module', None)):
        batch = model.data_preprocessor(data_batch, training=True)
        total, _ = model.parse_losses(model(**batch, mode='loss'))
    total.backward()
    model.zero_grad(set_to_none=True)


@contextmanager
def _unobserved(loss: Any) -> Iterator[None]:
    """Keep steps that are not taken out of the logs."""
    observer = getattr(loss, 'observer', None)
    if observer is not None:
        loss.observer = None
    yield
    if observer is not None:
        loss.observer = observer


def _bare(runner: Runner) -> Any:
    """The model without the wrapper of several processes."""
    model: Any = runner.model
    return model.module if is_model_wrapper(model) else model


def _named(model: nn.Module, patterns: Sequence[str]) -> list[nn.Module]:
    """Modules by their names."""
    named = dict(model.named_modules())
    found = []
    for pattern in patterns:
        # A `*` stays between two dots: a block, and not what is in it.
        depth = pattern.count('.')
        fitting = [
            one
            for name, one in named.items()
            if fnmatchcase(name, pattern) and name.count('.') == depth
        ]
        if not fitting:
            msg = f'{pattern!r} fits no module; there are {list(named)[1:9]} and others'
            raise ValueError(msg)
        found += fitting
    return found
