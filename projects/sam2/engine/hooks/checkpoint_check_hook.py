"""Stops a run whose weights do not fit its model."""

from typing import Any

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from ...checkpoints import (
    SOURCE_FIELD,
    adapter_weights_of,
    check_weights,
    fit_adapters,
    is_adapter_key,
    read_checkpoint,
    weights_of,
)
from ..distributed import unwrap_model


@HOOKS.register_module()
class SAM2CheckpointCheckHook(Hook):
    """Checks loaded weights against the model.

    MMEngine loads the weights that fit and only logs the others: a run with half of its
    weights at random would go unnoticed.

    A model with adapters accepts the weights of a model without them: its layers are
    loaded, and its adapters start from their initial values.

    Args:
        adapters: File of trained adapters, as ``convert_adapters.py save`` writes it,
            to load on top of a checkpoint without adapters. Only for models with
            adapters.
    """

    priority = 'VERY_HIGH'  # before the EMA hook, which reads the weights as well

    def __init__(self, *, adapters: str | None = None) -> None:
        self.adapters = adapters

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Raise a ``ValueError`` if the weights do not fit."""
        source = checkpoint.get(SOURCE_FIELD, 'The loaded checkpoint')
        weights = weights_of(checkpoint, source=source)
        model = unwrap_model(runner.model)
        model_state = model.state_dict()
        if self.adapters is not None and not any(map(is_adapter_key, model_state)):
            msg = (
                f'adapters={self.adapters!r} of SAM2CheckpointCheckHook needs a model '
                f'with SAM2LowRankAdapters; merge the file (convert_adapters.py merge '
                f'--base) and load the result instead'
            )
            raise ValueError(msg)
        fitted = fit_adapters(weights, model_state)
        if self.adapters is not None and any(map(is_adapter_key, weights)):
            runner.logger.warning(
                '%s contains adapters already: adapters=%r of SAM2CheckpointCheckHook '
                'is ignored',
                source,
                self.adapters,
            )
        elif self.adapters is not None:
            adapters = read_checkpoint(self.adapters, 'cpu')
            fitted |= adapter_weights_of(adapters, source=self.adapters)
            runner.logger.info('Loaded the adapters of %s', self.adapters)
        check_weights(fitted, model, source=source)
        checkpoint['state_dict'] = fitted
