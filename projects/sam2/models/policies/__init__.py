"""Memory policies of other work than SAM 2, each a memory bank in a file of its own."""

from .dam4sam import MemoryBankDAM4SAM

__all__ = ['MemoryBankDAM4SAM']
