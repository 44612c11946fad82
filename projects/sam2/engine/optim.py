"""Optimizer wrappers and their construction: bfloat16, skipped steps, recipes."""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from mmengine.dist import all_reduce
from mmengine.logging import MMLogger, print_log
from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS, OPTIMIZERS
from mmengine.runner.amp import autocast
from torch import Tensor, nn

from .distributed import unwrap_model


@OPTIM_WRAPPERS.register_module()
class SAM2BFloat16OptimWrapper(OptimWrapper):
    """An ``OptimWrapper`` whose forward pass runs in bfloat16 autocast.

    bfloat16 has the range of float32: gradients need no loss scaling. Accumulation
    and clipping are the parent's, and so are the arguments.
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Cast operations to bfloat16, and reduce gradients only before a step."""
        with super().optim_context(model), autocast(dtype=torch.bfloat16):
            yield


class NonFiniteLossError(RuntimeError):
    """Too many losses were not finite."""


class FiniteGuard:
    """Wraps an optimizer wrapper and skips steps that are not finite.

    A step is skipped if a loss that it accumulates is not finite on any process, or if
    its gradient has no finite norm. The decision is made on the device, from the norm
    that clipping computes. A fused optimizer obeys it on the device, so that nothing
    waits for a GPU; for other optimizers the host has to read it. A wrapper that scales
    the loss checks the gradient itself.

    State, counts and learning rates stay in the wrapper.

    Args:
        wrapper: The optimizer wrapper of the run.

    Attributes:
        is_bad: Whether the last batch had a non-finite loss or gradient on any process,
            a bool tensor.
        is_own: Whether it was a loss of this process or the gradient, which all share.
        grad_norm: Norm before clipping, if the last batch ended with a step of a
            wrapper that clips. It stays on the device; MMEngine would read it at once.
    """

    def __init__(self, wrapper: OptimWrapper) -> None:
        self.wrapper: Any = wrapper
        self.is_bad = self.is_own = torch.tensor(False)
        self.grad_norm: Tensor | None = None
        self._skip = torch.tensor(False)  # the step that is accumulated
        scaler = getattr(wrapper, 'loss_scaler', None)
        self._scales_loss = scaler is not None and scaler.is_enabled()
        self._steps_plainly = type(wrapper).step is OptimWrapper.step

    def optim_context(self, model: nn.Module) -> AbstractContextManager[None]:
        """The wrapper's own context of the forward pass."""
        context: AbstractContextManager[None] = self.wrapper.optim_context(model)
        return context

    def update_params(self, loss: Tensor) -> None:
        """Go backward, and step at the end of an accumulation, unless it is skipped."""
        wrapper = self.wrapper
        self.grad_norm = None
        self.is_own = ~loss.detach().isfinite().all()
        self.is_bad = _on_any_process(self.is_own)
        self._skip = self._skip | self.is_bad
        # Also with a bad loss: other processes wait for this one's gradients.
        wrapper.backward(wrapper.scale_loss(loss))
        if wrapper.should_update():
            self._step()
            wrapper.zero_grad()
            self._skip = torch.zeros_like(self._skip)

    def _step(self) -> None:
        wrapper, optimizer = self.wrapper, self.wrapper.optimizer
        if not self._steps_plainly:
            if not self._scales_loss:
                self._check_gradient(self._gradient_norm())
            if not self._skip:  # read by the host
                wrapper.step()
            return
        self._check_gradient(self._clip())
        limits, wrapper.clip_grad_kwargs = wrapper.clip_grad_kwargs, None
        if _can_skip(optimizer):
            optimizer.found_inf = self._skip.float()  # as torch's GradScaler does
            wrapper.step()
            del optimizer.found_inf
        elif not self._skip:  # read by the host
            wrapper.step()
        wrapper.clip_grad_kwargs = limits

    def _clip(self) -> Tensor:
        """Clip as ``OptimWrapper.step`` does, but return the norm unread."""
        wrapper, limits = self.wrapper, self.wrapper.clip_grad_kwargs
        if limits and 'max_norm' in limits:
            norm: Tensor = wrapper.clip_func(self._trained(), **limits)
            self.grad_norm = norm
            return norm
        norm = self._gradient_norm()
        if limits:  # on single values; afterwards an infinite one looks finite
            wrapper.clip_func(self._trained(), **limits)
        return norm

    def _gradient_norm(self) -> Tensor:
        return nn.utils.get_total_norm(
            [p.grad for p in self._trained() if p.grad is not None]
        )

    def _check_gradient(self, norm: Tensor) -> None:
        """Skip the step if the gradient, the same on all processes, is not finite."""
        is_bad = ~norm.isfinite() & ~self._skip  # after a bad loss it is known
        self.is_bad = self.is_bad | is_bad
        self.is_own = self.is_own | is_bad
        self._skip = self._skip | is_bad

    def _trained(self) -> list[nn.Parameter]:
        groups = self.wrapper.optimizer.param_groups
        return [p for group in groups for p in group['params'] if p.grad is not None]


def _on_any_process(flag: Tensor) -> Tensor:
    """Whether a flag is set on any process; a collective."""
    count = flag.float()
    all_reduce(count, op='max')
    return count > 0


def _can_skip(optimizer: torch.optim.Optimizer) -> bool:
    """Whether an optimizer can skip a step by ``found_inf``, a flag on the device."""
    return getattr(optimizer, '_step_supports_amp_scaling', False) and all(
        group.get('fused') for group in optimizer.param_groups
    )


ENCODER = 'image_encoder'
BACKBONE = 'backbone'
# Entries of paramwise_cfg that MMEngine's default constructor knows.
MMENGINE_KEYS = frozenset(
    {
        'custom_keys',
        'bias_lr_mult',
        'bias_decay_mult',
        'norm_decay_mult',
        'flat_decay_mult',
        'dwconv_decay_mult',
        'dcn_offset_lr_mult',
        'bypass_duplicate',
    }
)
MATCHED = 'matched_custom_key'
MULTIPLIERS = frozenset({'lr_mult', 'decay_mult'})


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class SAM2OptimWrapperConstructor:
    """Builds the optimizer of SAM 2's fine-tuning recipe (Ravi et al., 2024, D.2.2).

    - The image encoder (backbone and neck) has its own learning rate. In models of
      other projects this applies to the ``backbone``, at any depth.
    - Layer decay: within the backbone the rate decreases by a factor per block from the
      last block to the first. ``layer_of`` of the backbone gives the layer of each
      parameter; position embeddings keep the full rate of the encoder.
    - Biases and layer norms over tokens (``nn.LayerNorm``) have no weight decay; all
      other parameters do, including 2-D layer norms and embeddings.
    - Frozen parameters are left out.

    All entries of MMEngine's ``paramwise_cfg`` work as well. Learning rate factors are
    multiplied: ``custom_keys={'neck': dict(lr_mult=10)}`` with ``backbone_lr_mult=0.1``
    gives the neck the base rate. A weight decay that an entry sets (``decay_mult``,
    ``norm_decay_mult``, ``bias_decay_mult``, …) replaces the recipe's.

    Args:
        optim_wrapper_cfg: Config of the optimizer wrapper, with ``optimizer``.
        paramwise_cfg: ``backbone_lr_mult``, the factor of the encoder's learning rate,
            and ``layer_decay``, the factor from one block to the one before it, both 1
            by default; and the entries of MMEngine's
            ``DefaultOptimWrapperConstructor``.

    Raises:
        ValueError: If ``paramwise_cfg`` has an unknown entry, the wrapper no optimizer,
            or the optimizer no learning rate.
    """

    def __init__(
        self,
        *,
        optim_wrapper_cfg: dict[str, Any],
        paramwise_cfg: dict[str, Any] | None = None,
    ) -> None:
        given = dict(paramwise_cfg or {})
        self.encoder_scale = given.pop('backbone_lr_mult', 1.0)
        self.layer_decay = given.pop('layer_decay', 1.0)
        unknown = sorted(given.keys() - MMENGINE_KEYS)
        if unknown:
            msg = (
                f'paramwise_cfg has {unknown}, but knows only backbone_lr_mult, '
                f'layer_decay and {", ".join(sorted(MMENGINE_KEYS))}'
            )
            raise ValueError(msg)
        self.mmengine_cfg = given
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
        numbers = {
            'optim_wrapper.optimizer.lr': self.optim_wrapper_cfg['optimizer']['lr'],
            'paramwise_cfg.backbone_lr_mult': self.encoder_scale,
            'paramwise_cfg.layer_decay': self.layer_decay,
        }
        for key, value in numbers.items():
            if not isinstance(value, int | float):
                msg = f'{key} is {value!r}; give a number, as 1e-4'
                raise ValueError(msg)
        decays = [key for key in given if key.endswith('_decay_mult')]
        decays += [
            f'custom_keys.{key}'
            for key, entry in given.get('custom_keys', {}).items()
            if 'decay_mult' in entry
        ]
        if decays and 'weight_decay' not in self.optim_wrapper_cfg['optimizer']:
            msg = (
                f'paramwise_cfg multiplies the weight decay ({", ".join(decays)}), but '
                f'the optimizer has none; set optim_wrapper.optimizer.weight_decay'
            )
            raise ValueError(msg)

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Build the wrapped optimizer of a model."""
        model = unwrap_model(model)
        wrapper_cfg = {'type': 'OptimWrapper', **self.optim_wrapper_cfg}
        optimizer_cfg = dict(wrapper_cfg.pop('optimizer'))
        optimizer_cfg['params'] = self.parameter_groups(model, optimizer_cfg['lr'])
        if optimizer_cfg.get('type') == 'AdamW' and _is_on_gpu(model):
            # Faster, and it skips a non-finite step without a wait for the device.
            optimizer_cfg.setdefault('fused', 'foreach' not in optimizer_cfg)
        optimizer = OPTIMIZERS.build(optimizer_cfg)
        wrapper: OptimWrapper = OPTIM_WRAPPERS.build(
            wrapper_cfg, default_args={'optimizer': optimizer}
        )
        return wrapper

    def parameter_groups(self, model: nn.Module, rate: float) -> list[dict[str, Any]]:
        """Group parameters by learning rate and weight decay.

        Returns:
            Groups with ``params`` and ``lr``, and ``weight_decay=0`` for those that
            are exempt from it.

        Raises:
            ValueError: If the model has no encoder for ``backbone_lr_mult``.
            TypeError: If the backbone has no ``layer_of`` for ``layer_decay``.
        """
        scale_of = self._encoder_scales(model)
        exempt_ids = {
            id(parameter)
            for module in model.modules()
            if isinstance(module, nn.LayerNorm)
            for parameter in module.parameters()
        }
        settings = self._mmengine_settings(model)
        groups: dict[tuple[object, ...], dict[str, Any]] = {}
        for name, parameter in model.named_parameters():
            if not parameter.requires_grad:
                continue
            setting = settings.get(id(parameter), {})
            scale = scale_of(name) * setting.get('scale', 1.0)
            is_exempt = 'bias' in name or id(parameter) in exempt_ids
            options: dict[str, Any] = {'weight_decay': 0.0} if is_exempt else {}
            options |= setting.get('options', {})
            key = (scale, *sorted(map(repr, options.items())))
            group = groups.setdefault(key, {'params': []})
            group['params'].append(parameter)
            group['lr'] = rate * scale
            group |= options
        return list(groups.values())

    def _mmengine_settings(self, model: nn.Module) -> dict[int, dict[str, Any]]:
        """Return the settings from MMEngine's entries by ``id`` of the parameter."""
        if not self.mmengine_cfg:
            return {}
        custom = {
            # MMEngine copies the entry into the group of each parameter it matches.
            key: {**entry, MATCHED: key}
            for key, entry in self.mmengine_cfg.get('custom_keys', {}).items()
        }
        optimizer = {**self.optim_wrapper_cfg['optimizer'], 'lr': 1.0}
        constructor = DefaultOptimWrapperConstructor(
            {'optimizer': optimizer}, {**self.mmengine_cfg, 'custom_keys': custom}
        )
        groups: list[dict[str, Any]] = []
        with _without_warnings_of_frozen():
            constructor.add_params(groups, model)
        settings: dict[int, dict[str, Any]] = {}
        for group in groups:
            (parameter,) = group.pop('params')
            key = group.pop(MATCHED, None)
            scale = group.pop('lr', 1.0)
            if key is not None:
                entry = self.mmengine_cfg['custom_keys'][key]
                # MMEngine gives a matched parameter the default decay if none is set.
                if not {'decay_mult', 'weight_decay'} & entry.keys():
                    group.pop('weight_decay', None)
                if 'lr' in entry:
                    group['lr'] = entry['lr']
            options = {name: v for name, v in group.items() if name not in MULTIPLIERS}
            settings.setdefault(id(parameter), {'scale': scale, 'options': options})
            custom.pop(key, None)
        if custom:
            print_log(
                f'custom_keys of paramwise_cfg match no trained parameter: '
                f'{", ".join(sorted(custom))}',
                logger='current',
                level=logging.WARNING,
            )
        return settings

    def _encoder_scales(self, model: nn.Module) -> Callable[[str], float]:
        """Return a function from a parameter's name to its learning rate factor."""
        if self.encoder_scale == self.layer_decay == 1.0:
            return lambda _: 1.0
        encoders = _outermost(model, ENCODER)
        backbones = _outermost(model, BACKBONE)
        alone = [name for name in backbones if not _is_within(name, encoders)]
        if not encoders + alone:
            parts = ', '.join(name for name, _ in model.named_children())
            msg = (
                f'paramwise_cfg has backbone_lr_mult={self.encoder_scale} and '
                f'layer_decay={self.layer_decay}, but the model has no part called '
                f'{ENCODER} or {BACKBONE} (it has {parts}); set both to 1 and use '
                f'custom_keys'
            )
            raise ValueError(msg)
        layer_scales: dict[str, Callable[[str], float]] = {}
        if self.layer_decay != 1.0:
            for name in [*(f'{encoder}.{BACKBONE}' for encoder in encoders), *alone]:
                layer_scales |= self._layer_scale(model, name)

        def scale_of(name: str) -> float:
            scale = self.encoder_scale if _is_within(name, encoders + alone) else 1.0
            for start, layer_scale in layer_scales.items():
                if name.startswith(start):
                    scale *= layer_scale(name.removeprefix(start))
            return float(scale)

        return scale_of

    def _layer_scale(
        self, model: nn.Module, name: str
    ) -> Mapping[str, Callable[[str], float]]:
        """Return the prefix of a backbone's parameters and their layer decay."""
        backbone = dict(model.named_modules()).get(name)
        layered: list[tuple[str, Any]] = [
            (inner, module)
            for inner, module in (backbone.named_modules() if backbone else ())
            if hasattr(module, 'layer_of') and hasattr(module, 'num_layers')
        ]
        if not layered:
            msg = (
                f'layer_decay={self.layer_decay} needs a backbone with layer_of and '
                f'num_layers at model.{name}, but got {type(backbone).__name__}; set '
                f'paramwise_cfg.layer_decay=1'
            )
            raise TypeError(msg)
        inner, module = layered[0]

        def scale_of(parameter_name: str) -> float:
            depth_from_end = module.num_layers + 1 - module.layer_of(parameter_name)
            return float(self.layer_decay**depth_from_end)

        return {f'{name}.{inner}.' if inner else f'{name}.': scale_of}


@contextmanager
def _without_warnings_of_frozen() -> Iterator[None]:
    """Hide MMEngine's warnings, one for each frozen parameter: SAM 2 has 900."""

    def is_other(record: logging.LogRecord) -> bool:
        return 'is skipped since its requires_grad' not in record.getMessage()

    logger = MMLogger.get_current_instance()
    logger.addFilter(is_other)
    try:
        yield
    finally:
        logger.removeFilter(is_other)


def _outermost(model: nn.Module, part: str) -> list[str]:
    """Names of the modules called ``part`` that are not inside another such module."""
    names: list[str] = []
    for name, _ in model.named_modules():
        if name.rpartition('.')[2] == part and not _is_within(name, names):
            names.append(name)
    return names


def _is_within(name: str, modules: list[str]) -> bool:
    """Whether a name is that of one of the modules or lies below one."""
    return any(f'{name}.'.startswith(f'{module}.') for module in modules)


def _is_on_gpu(model: nn.Module) -> bool:
    return {parameter.device.type for parameter in model.parameters()} == {'cuda'}
