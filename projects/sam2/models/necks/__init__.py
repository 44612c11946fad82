"""Necks between backbone and tracker."""

from projects.sam2.models.necks.hiera_fpn import HieraFPN

__all__ = ['HieraFPN']
