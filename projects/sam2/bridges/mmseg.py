"""What a config of mmsegmentation imports to use this package.

::

    custom_imports = dict(imports=['projects.sam2.bridges.mmseg'])

It registers all parts of this package and of the bridges to mmsegmentation, and
installs the operators in torch where mmcv's compiled ones are missing.
"""

from .mmcv_operators import ensure_operators

ensure_operators()  # before the imports below, some of which import mmseg.models

from . import hiera_backbone, image_dataset, mask_losses, semantic_head  # noqa: E402

__all__ = ['hiera_backbone', 'image_dataset', 'mask_losses', 'semantic_head']
