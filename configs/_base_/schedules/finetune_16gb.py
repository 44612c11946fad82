"""For 16 GB: the published schedule with activation checkpointing of all parts.

Gradients of two clips are accumulated, in place of twice as many GPUs.
"""

_base_ = './finetune_40e_low_memory.py'

optim_wrapper = dict(accumulative_counts=2)
