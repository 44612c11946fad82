"""Stops a run whose weights do not fit its model."""

from typing import Any

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from projects.sam2.checkpoints import (
    SOURCE_FIELD,
    adapter_weights_of,
    check_weights,
    fit_adapters,
    is_adapter_key,
    read_checkpoint,
    weights_of,
)

__all__ = ['SAM2CheckpointCheckHook']


@HOOKS.register_module()
class SAM2CheckpointCheckHook(Hook):
    """Checks loaded weights against the model before anything reads them.

    MMEngine loads what fits and logs the rest, so a run with half of its weights at
    random goes unnoticed. The priority lies before that of the EMA hook, which reads
    the weights, too.

    A model with adapters takes the weights of a plain one: its layers get theirs, and
    its adapters begin anew.

    Args:
        adapters: File of what an earlier run has trained, as ``convert_adapters.py
            save`` writes it, to go on from where a plain checkpoint is loaded; None
            for adapters that begin anew. For models with adapters alone: of others no
            weight tells whether a run has trained it since.
    """

    priority = 'VERY_HIGH'

    def __init__(self, *, adapters: str | None = None) -> None:
        self.adapters = adapters

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Raise where the weights do not fit.

        Args:
            runner: Holds the model.
            checkpoint: As the loader read it, by our names.

        Raises:
            CheckpointMismatchError: If they do not fit, or there are no weights.
            ValueError: If the file of adapters is none, or the model has none.
        """
        source = checkpoint.get(SOURCE_FIELD, 'The loaded checkpoint')
        weights = weights_of(checkpoint, source=source)
        model = runner.model
        bare = model.get_submodule('module') if is_model_wrapper(model) else model
        wanted = bare.state_dict()
        if self.adapters is not None and not any(map(is_adapter_key, wanted)):
            msg = (
                f'adapters={self.adapters!r} of SAM2CheckpointCheckHook needs a model '
                f'with SAM2LowRankAdapters; merge the file (convert_adapters.py merge '
                f'--base) and load the result instead'
            )
            raise ValueError(msg)
        fitted = fit_adapters(weights, wanted)
        if self.adapters is not None and any(map(is_adapter_key, weights)):
            runner.logger.warning(
                '%s has adapters already: adapters=%r of SAM2CheckpointCheckHook is '
                'not read',
                source,
                self.adapters,
            )
        elif self.adapters is not None:
            given = read_checkpoint(self.adapters, 'cpu')
            fitted |= adapter_weights_of(given, source=self.adapters)
            runner.logger.info('Adapters are those of %s', self.adapters)
        check_weights(fitted, bare, source=source)
        checkpoint['state_dict'] = fitted
