"""For 8 GB: the published schedule with activation checkpointing of all parts.

Gradients of eight clips are accumulated: one GPU in place of the recipe's eight.
"""

_base_ = './finetune_40e_low_memory.py'

optim_wrapper = dict(accumulative_counts=8)
