"""Stops a run whose weights do not fit its model."""

from typing import Any

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from projects.sam2.checkpoints import SOURCE_FIELD, check_weights, weights_of

__all__ = ['SAM2CheckpointCheckHook']


@HOOKS.register_module()
class SAM2CheckpointCheckHook(Hook):
    """Checks loaded weights against the model before anything reads them.

    MMEngine loads what fits and logs the rest, so a run with half of its weights at
    random goes unnoticed. The priority lies before that of the EMA hook, which reads
    the weights, too.
    """

    priority = 'VERY_HIGH'

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Raise where the weights do not fit.

        Args:
            runner: Holds the model.
            checkpoint: As the loader read it, by our names.

        Raises:
            CheckpointMismatchError: If they do not fit, or there are no weights.
        """
        source = checkpoint.get(SOURCE_FIELD, 'The loaded checkpoint')
        weights = weights_of(checkpoint, source=source)
        model = runner.model
        bare = model.get_submodule('module') if is_model_wrapper(model) else model
        check_weights(weights, bare, source=source)
