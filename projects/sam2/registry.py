"""Registries of the scope ``mmsam2``, children of MMEngine's root registries.

The parts of this package are in the root registries, where any scope finds them. These
children have them as well, and let configs name the scope: ``type='mmsam2.SAM2'``,
``type='sam2.SAM2'``, or ``default_scope = 'mmsam2'``. A part that is registered here
only is found by such names only, so it may have the name of a part of another package:

>>> from projects.sam2.registry import MODELS
>>> @MODELS.register_module()
... class FocalLoss(torch.nn.Module): ...
"""

from mmengine import registry as root_registries
from mmengine.registry import Registry

from .installation import NAME, WHEEL_NAME

__all__ = [
    'DATASETS',
    'DATA_SAMPLERS',
    'EVALUATOR',
    'FUNCTIONS',
    'HOOKS',
    'INFERENCERS',
    'LOG_PROCESSORS',
    'LOOPS',
    'METRICS',
    'MODELS',
    'MODEL_WRAPPERS',
    'OPTIMIZERS',
    'OPTIM_WRAPPERS',
    'OPTIM_WRAPPER_CONSTRUCTORS',
    'PARAM_SCHEDULERS',
    'RUNNERS',
    'RUNNER_CONSTRUCTORS',
    'STRATEGIES',
    'TASK_UTILS',
    'TRANSFORMS',
    'VISBACKENDS',
    'VISUALIZERS',
    'WEIGHT_INITIALIZERS',
    'add_root_parts',
]

SHORT_SCOPE = 'sam2'


def _child(name: str, scope: str = WHEEL_NAME) -> Registry:
    """Create a child of a root registry; importing the package fills the root."""
    parent: Registry = getattr(root_registries, name)
    return Registry(
        parent.name, parent=parent, scope=scope, locations=[f'{NAME}.registration']
    )


DATASETS = _child('DATASETS')
DATA_SAMPLERS = _child('DATA_SAMPLERS')
EVALUATOR = _child('EVALUATOR')
FUNCTIONS = _child('FUNCTIONS')
HOOKS = _child('HOOKS')
INFERENCERS = _child('INFERENCERS')
LOG_PROCESSORS = _child('LOG_PROCESSORS')
LOOPS = _child('LOOPS')
METRICS = _child('METRICS')
MODELS = _child('MODELS')
MODEL_WRAPPERS = _child('MODEL_WRAPPERS')
OPTIMIZERS = _child('OPTIMIZERS')
OPTIM_WRAPPERS = _child('OPTIM_WRAPPERS')
OPTIM_WRAPPER_CONSTRUCTORS = _child('OPTIM_WRAPPER_CONSTRUCTORS')
PARAM_SCHEDULERS = _child('PARAM_SCHEDULERS')
RUNNERS = _child('RUNNERS')
RUNNER_CONSTRUCTORS = _child('RUNNER_CONSTRUCTORS')
STRATEGIES = _child('STRATEGIES')
TASK_UTILS = _child('TASK_UTILS')
TRANSFORMS = _child('TRANSFORMS')
VISBACKENDS = _child('VISBACKENDS')
VISUALIZERS = _child('VISUALIZERS')
WEIGHT_INITIALIZERS = _child('WEIGHT_INITIALIZERS')

# The short scope has the same parts.
_REGISTRIES = {
    name: value for name, value in vars().items() if isinstance(value, Registry)
}
for _name, _registry in _REGISTRIES.items():
    _child(_name, SHORT_SCOPE)._module_dict = _registry._module_dict  # noqa: SLF001


def add_root_parts() -> None:
    """Add this package's parts of the root registries.

    In the scope ``mmsam2``, MMEngine looks for ``mmsam2.SAM2`` here only.
    """
    for registry in _REGISTRIES.values():
        root = registry.parent
        if root is not None:
            parts = registry._module_dict  # noqa: SLF001
            for name, part in root.module_dict.items():
                if getattr(part, '__module__', '').startswith(f'{NAME}.'):
                    parts.setdefault(name, part)
