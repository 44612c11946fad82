"""Base class of parts that load pretrained weights by ``init_cfg``."""

from typing import Any, ClassVar

from mmengine.model import BaseModule, PretrainedInit, update_init_info
from mmengine.runner import CheckpointLoader
from torch import Tensor

from ..checkpoints import part_weights


class PretrainedModule(BaseModule):
    """A part of SAM 2 that finds its weights in a checkpoint of a whole SAM 2.

    MMEngine's ``init_cfg=dict(type='Pretrained', checkpoint=…)`` loads the weights
    whose names equal those of the part. A checkpoint of a whole model has none of
    these, and MMEngine continues with random weights. This class finds the weights
    under the names of any format, with or without ``prefix``, and raises unless all of
    them are there.

    Attributes:
        checkpoint_part: Prefix of the part in our checkpoints, with a dot at the end.
    """

    checkpoint_part: ClassVar[str]

    def init_weights(self) -> None:
        """Initialise according to ``init_cfg``; pretrained weights are loaded last.

        Raises:
            CheckpointMismatchError: If the checkpoint does not have exactly the
                weights of this part.
            TypeError: If ``init_cfg`` has an argument that ``Pretrained`` lacks.
        """
        if self.is_init:
            super().init_weights()  # type: ignore[no-untyped-call]
            return
        init_cfg = self.init_cfg or []
        configs = [init_cfg] if isinstance(init_cfg, dict) else list(init_cfg)
        pretrained = [cfg for cfg in configs if _is_pretrained(cfg)]
        self.init_cfg = [cfg for cfg in configs if not _is_pretrained(cfg)]
        try:
            super().init_weights()  # type: ignore[no-untyped-call]
        finally:
            self.init_cfg = init_cfg
        for cfg in pretrained:
            self._load_pretrained(**{k: v for k, v in cfg.items() if k != 'type'})

    def _load_pretrained(
        self, checkpoint: str, prefix: str | None = None, map_location: str = 'cpu'
    ) -> None:
        """Load the weights; the arguments are those of ``PretrainedInit``."""
        loaded = CheckpointLoader.load_checkpoint(checkpoint, map_location)
        weights = part_weights(
            loaded,
            self.checkpoint_state(),
            part=self.checkpoint_part,
            prefix=prefix,
            source=checkpoint,
        )
        # What only one of the two state dicts has stays as it is.
        own = self.state_dict().keys() & weights.keys()
        self.load_state_dict({name: weights[name] for name in own}, strict=False)
        if hasattr(self, '_params_init_info'):  # what MMEngine logs for each weight
            update_init_info(self, f'PretrainedInit: load from {checkpoint}')

    def checkpoint_state(self) -> dict[str, Tensor]:
        """Return a state dict of the part as checkpoints contain it.

        A part that a checkpoint has more or fewer weights of overrides this; only names
        and shapes of the tensors are read.
        """
        state: dict[str, Tensor] = self.state_dict()
        return state


def _is_pretrained(cfg: dict[str, Any]) -> bool:
    return cfg.get('type') in {'Pretrained', PretrainedInit}
