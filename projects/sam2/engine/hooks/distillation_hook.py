"""Keeps in checkpoints what distillation trains beside the student."""

from typing import Any

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from mmengine.runner.checkpoint import weights_to_cpu

from ..distributed import unwrap_model

CHECKPOINT_KEY = 'distillation'


@HOOKS.register_module()
class SAM2DistillationHook(Hook):
    """Lets a run with a :class:`SAM2Distillation` resume; others stay as they are.

    The ``state_dict`` of its checkpoints is the student's alone. Projections of the
    feature losses and a teacher that is trained go to an entry of their own,
    ``distillation``, beside the state of the optimizer.
    """

    def before_save_checkpoint(
        self, runner: Runner, checkpoint: dict[str, Any]
    ) -> None:
        """Add the weights to a checkpoint to resume from."""
        model = unwrap_model(runner.model)
        if 'optimizer' in checkpoint and hasattr(model, 'training_state'):
            checkpoint[CHECKPOINT_KEY] = {
                name: weights_to_cpu(state)
                for name, state in model.training_state().items()
            }

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Restore the weights of a resumed run."""
        model = unwrap_model(runner.model)
        if runner._resume and hasattr(model, 'training_state'):  # noqa: SLF001  no public name
            model.load_training_state(checkpoint.get(CHECKPOINT_KEY, {}))
