"""The memory of SAM 2: conditioning frames and the latest others, first in first out.

A config takes it by ``memory_bank={{_base_.memory_bank}}`` and keeps its own options.
"""

memory_bank = dict(type='MemoryBank')
