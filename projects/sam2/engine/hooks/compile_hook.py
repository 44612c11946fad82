"""Compiles parts of the model with ``torch.compile``."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from time import perf_counter
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import nn

from ...ops import raise_recompile_limit
from ..distributed import unwrap_model

# Variants of a part: shapes, training and evaluation, with and without a graph.
NUM_VARIANTS = 8


@HOOKS.register_module()
class SAM2CompileHook(Hook):
    """Compiles a SAM 2 with ``torch.compile`` and warms it up.

    By default :meth:`SAM2.compile_regions` does it, of each SAM 2 in the model; names
    of modules are for parts that it does not know, such as another backbone. The rest
    of the model (memory selection, prompts, the loss) runs eagerly. Results differ by
    rounding. Compiling needs a C++ compiler, and Triton on a GPU.

    Args:
        static: Names of modules whose inputs have the same shape in every step; ``*``
            matches any characters, as in ``image_encoder.backbone.blocks.*``.
        dynamic: Names of modules whose inputs vary in length.
        warm_up: Number of forward and backward passes before the first step: its batch
            runs with the prompts of that many steps, so that they are compiled.
            Weights, gradients and random states do not change.

    Raises:
        ValueError: In ``before_train``, if a name matches no module, or there is
            neither a name nor a SAM 2.
    """

    def __init__(
        self,
        *,
        static: Sequence[str] | None = None,
        dynamic: Sequence[str] | None = None,
        warm_up: int = 0,
    ) -> None:
        self.has_names = static is not None or dynamic is not None
        self.static = tuple(static or ())
        self.dynamic = tuple(dynamic or ())
        self.warm_up = warm_up
        self._is_warm = warm_up == 0

    def before_train(self, runner: Runner) -> None:
        """Mark the parts; they are compiled when they are first called."""
        self.apply(unwrap_model(runner.model))

    def apply(self, model: nn.Module) -> None:
        """Compile parts of a model without a runner.

        Raises:
            ValueError: If a name matches no module, or there is neither a name nor a
                SAM 2.
        """
        if not self.has_names:
            _compile_regions(model)
            return
        parts = [
            (part, is_dynamic)
            for patterns, is_dynamic in ((self.static, False), (self.dynamic, True))
            for part in _find_modules(model, patterns)
        ]
        raise_recompile_limit(NUM_VARIANTS * len(parts))
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
                hub.update_info('iter', step)  # the model's prompts depend on it
                _run_forward_and_backward(runner, data_batch)
        hub.update_info('iter', first)
        runner.logger.info(
            'Warmed up the compiled parts in %.0f s', perf_counter() - start
        )


def _compile_regions(model: nn.Module) -> None:
    """Compile each SAM 2 in a model."""
    models: list[Any] = [m for m in model.modules() if hasattr(m, 'compile_regions')]
    if not models:
        msg = (
            f'There is no SAM 2 in the {type(model).__name__}; name the modules to be '
            f'compiled in the static or dynamic of SAM2CompileHook'
        )
        raise ValueError(msg)
    for sam2 in models:
        sam2.compile_regions()


def _run_forward_and_backward(runner: Runner, data_batch: object) -> None:
    """Run a batch forward and backward, and discard the gradients."""
    wrapper: Any = runner.optim_wrapper
    model = unwrap_model(runner.model)
    loss = getattr(model, 'loss_module', None)
    with wrapper.optim_context(model), _without_observer(loss):
        batch = model.data_preprocessor(data_batch, training=True)
        total, _ = model.parse_losses(model(**batch, mode='loss'))
    total.backward()
    model.zero_grad(set_to_none=True)


@contextmanager
def _without_observer(loss: Any) -> Iterator[None]:
    """Keep the losses of the warm-up out of the logs."""
    observer = getattr(loss, 'observer', None)
    if observer is not None:
        loss.observer = None
    yield
    if observer is not None:
        loss.observer = observer


def _find_modules(model: nn.Module, patterns: Sequence[str]) -> list[nn.Module]:
    """Return the modules whose names match a pattern."""
    named = dict(model.named_modules())
    modules = []
    for pattern in patterns:
        matches = [
            module
            for name, module in named.items()
            # `*` matches one level: a block, but not its children.
            if fnmatchcase(name, pattern) and name.count('.') == pattern.count('.')
        ]
        if not matches:
            names = ', '.join(list(named)[1:9])
            msg = f'{pattern!r} matches no module; there are {names} and others'
            raise ValueError(msg)
        modules += matches
    return modules
