"""Policies that select memories, and masks, by more than their age.

Each is a :class:`MemoryBank` in its own file, with a config of the same name in
``configs/_base_/policies``.
"""

from .dam4sam import MemoryBankDAM4SAM
from .sam2long import MemoryBankSAM2Long
from .samurai import MemoryBankSAMURAI

__all__ = ['MemoryBankDAM4SAM', 'MemoryBankSAM2Long', 'MemoryBankSAMURAI']
