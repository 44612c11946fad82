"""Learning rate and weight decay of each parameter."""

from collections.abc import Callable
from typing import Any

from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS, OPTIMIZERS
from torch import nn

__all__ = ['SAM2OptimWrapperConstructor']

ENCODER = 'image_encoder.'
BACKBONE = 'image_encoder.backbone.'


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class SAM2OptimWrapperConstructor:
    """Builds the optimizer of SAM 2's fine-tuning recipe (Ravi et al., 2024, D.2.2).

    - The image encoder, backbone and neck, has a learning rate of its own.
    - Within the backbone the rate falls by a factor for each block, from the last one
      down, as its ``layer_of`` says; what it places above the last block (position
      embeddings) keeps the full rate of the encoder.
    - Biases and layer norms over tokens (``nn.LayerNorm``) are not decayed; all else
      is, 2-D layer norms and embeddings among it.
    - What is frozen is left out.

    Args:
        optim_wrapper_cfg: Of the wrapper, with ``optimizer``.
        paramwise_cfg: ``backbone_lr_mult``, the encoder's rate over that of the
            rest, and ``layer_decay``, the factor from one block to the one before it;
            both default to 1.

    Raises:
        ValueError: If ``paramwise_cfg`` has another key, the wrapper no optimizer, or
            the optimizer no learning rate.
    """

    def __init__(
        self,
        *,
        optim_wrapper_cfg: dict[str, Any],
        paramwise_cfg: dict[str, float] | None = None,
    ) -> None:
        given = dict(paramwise_cfg or {})
        self.encoder_scale = given.pop('backbone_lr_mult', 1.0)
        self.layer_decay = given.pop('layer_decay', 1.0)
        if given:
            msg = (
                f'paramwise_cfg has {sorted(given)}, but knows only '
                f'backbone_lr_mult and layer_decay'
            )
            raise ValueError(msg)
        self.optim_wrapper_cfg = dict(optim_wrapper_cfg)
        if 'optimizer' not in self.optim_wrapper_cfg:
            msg = "optim_wrapper needs optimizer=dict(type='AdamW', lr=…)"
            raise ValueError(msg)
        if 'lr' not in self.optim_wrapper_cfg['optimizer']:
            msg = (
                f'optim_wrapper.optimizer has no lr, but '
                f'{dict(self.optim_wrapper_cfg["optimizer"])}; set the learning rate '
                f'of all but the image encoder, optim_wrapper.optimizer.lr'
            )
            raise ValueError(msg)

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Build the wrapped optimizer of a model.

        Args:
            model: Wrapped for several processes or not.

        Returns:
            A wrapper whose optimizer has one group for each pair of rate and decay.
        """
        bare: Any = model.module if is_model_wrapper(model) else model
        wrapper_cfg = {'type': 'OptimWrapper', **self.optim_wrapper_cfg}
        optimizer_cfg = dict(wrapper_cfg.pop('optimizer'))
        optimizer_cfg['params'] = self.parameter_groups(bare, optimizer_cfg['lr'])
        optimizer = OPTIMIZERS.build(optimizer_cfg)
        wrapper: OptimWrapper = OPTIM_WRAPPERS.build(
            wrapper_cfg, default_args={'optimizer': optimizer}
        )
        return wrapper

    def parameter_groups(self, model: nn.Module, rate: float) -> list[dict[str, Any]]:
        """Group parameters by learning rate and weight decay.

        Args:
            model: Not wrapped.
            rate: Learning rate of all but the image encoder.

        Returns:
            Groups with ``params`` and ``lr``, and ``weight_decay=0`` for those that
            are exempt from it.
        """
        layer_scale = self._layer_scale(model)
        exempt_ids = {
            id(parameter)
            for module in model.modules()
            if isinstance(module, nn.LayerNorm)
            for parameter in module.parameters()
        }
        groups: dict[tuple[float, bool], dict[str, Any]] = {}
        for name, parameter in model.named_parameters():
            if not parameter.requires_grad:
                continue
            scale = self.encoder_scale if name.startswith(ENCODER) else 1.0
            if name.startswith(BACKBONE):
                scale *= layer_scale(name.removeprefix(BACKBONE))
            is_exempt = 'bias' in name or id(parameter) in exempt_ids
            group = groups.setdefault((scale, is_exempt), {'params': []})
            group['params'].append(parameter)
            group['lr'] = rate * scale
            if is_exempt:
                group['weight_decay'] = 0.0
        return list(groups.values())

    def _layer_scale(self, model: nn.Module) -> Callable[[str], float]:
        """How the rate of a backbone's parameter is scaled, by its name there."""
        if self.layer_decay == 1.0:
            return lambda _: 1.0
        backbone: Any = dict(model.named_modules()).get(BACKBONE.rstrip('.'))
        if not hasattr(backbone, 'layer_of') or not hasattr(backbone, 'num_layers'):
            msg = (
                f'layer_decay={self.layer_decay} needs a backbone with layer_of and '
                f'num_layers at model.{BACKBONE.rstrip(".")}, but got '
                f'{type(backbone).__name__}; set paramwise_cfg.layer_decay=1'
            )
            raise TypeError(msg)

        def scale_of(name: str) -> float:
            depth_from_end = backbone.num_layers + 1 - backbone.layer_of(name)
            return float(self.layer_decay**depth_from_end)

        return scale_of
