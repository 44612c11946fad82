"""Imports all modules that register parts in MMEngine's registries.

Programs of ``tools/`` import it where they need the parts; everybody else gets it by
importing the package.
"""

from . import (
    apis,
    evaluation,
    losses,
    models,
    registry,  # the scopes of the parts
    visualization,
)
from .checkpoints import reading
from .datasets import clip_dataset, transforms, wrappers
from .datasets.sources import (
    coco,
    davis,
    label_images,
    labelme,
    object_folders,
    sa1b,
    sav,
    synthetic,
    youtube_vis,
)
from .deployment import validation
from .engine import config, files, hooks, loops, optim, samplers

registry.add_root_parts()

__all__ = [
    'apis',
    'clip_dataset',
    'coco',
    'config',
    'davis',
    'evaluation',
    'files',
    'hooks',
    'label_images',
    'labelme',
    'loops',
    'losses',
    'models',
    'object_folders',
    'optim',
    'reading',
    'registry',
    'sa1b',
    'samplers',
    'sav',
    'synthetic',
    'transforms',
    'validation',
    'visualization',
    'wrappers',
    'youtube_vis',
]
