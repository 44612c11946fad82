"""DAM4SAM: keep the frames that tell the object from its distractors.

As released for the weights of SAM 2.1; see :class:`MemoryBankDAM4SAM` for the
thresholds.
"""

memory_bank = dict(type='MemoryBankDAM4SAM', stride=5, max_conditioning_frames=4)
