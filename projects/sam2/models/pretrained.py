"""Parts that load their weights by ``init_cfg``, or say why they cannot."""

from typing import Any, ClassVar

from mmengine.model import BaseModule, PretrainedInit
from mmengine.runner import CheckpointLoader

from ..checkpoints import part_weights

__all__ = ['PretrainedModule']


class PretrainedModule(BaseModule):
    """A part of SAM 2 that finds its own weights in any checkpoint with a SAM 2.

    MMEngine's ``init_cfg=dict(type='Pretrained', checkpoint=…)`` loads what has the
    names that the part has itself, which in a checkpoint of a whole model is nothing,
    and goes on with random weights. Here the part finds its weights, whatever they are
    called and with or without ``prefix``, and raises unless all of them are there.

    Attributes:
        checkpoint_part: Where a SAM 2 of ours has this part, with a dot at the end.
    """

    checkpoint_part: ClassVar[str]

    def init_weights(self) -> None:
        """Initialise as ``init_cfg`` says; pretrained weights come last.

        Raises:
            CheckpointMismatchError: If the checkpoint does not have exactly the
                weights of this part.
            TypeError: If ``init_cfg`` has an argument that ``Pretrained`` lacks.
        """
        if self.is_init:
            super().init_weights()  # type: ignore[no-untyped-call]
            return
        given = self.init_cfg or []
        configs = [given] if isinstance(given, dict) else list(given)
        pretrained = [cfg for cfg in configs if _is_pretrained(cfg)]
        self.init_cfg = [cfg for cfg in configs if not _is_pretrained(cfg)]
        try:
            super().init_weights()  # type: ignore[no-untyped-call]
        finally:
            self.init_cfg = given
        for cfg in pretrained:
            self._load_pretrained(**{k: v for k, v in cfg.items() if k != 'type'})

    def _load_pretrained(
        self, checkpoint: str, prefix: str | None = None, map_location: str = 'cpu'
    ) -> None:
        """Load the part's weights; the arguments are those of ``PretrainedInit``."""
        loaded = CheckpointLoader.load_checkpoint(checkpoint, map_location)
        weights = part_weights(
            loaded,
            self.state_dict(),
            part=self.checkpoint_part,
            prefix=prefix,
            source=checkpoint,
        )
        self.load_state_dict(weights)


def _is_pretrained(cfg: dict[str, Any]) -> bool:
    """Whether a config of an initialisation names a checkpoint."""
    return cfg.get('type') in {'Pretrained', PretrainedInit}
