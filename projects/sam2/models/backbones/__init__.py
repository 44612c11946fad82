"""Image backbones."""

from projects.sam2.models.backbones.hiera import Hiera

__all__ = ['Hiera']
