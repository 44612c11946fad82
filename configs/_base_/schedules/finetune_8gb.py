"""For 8 GB: the published schedule, all parts computed twice, eight clips to a step.

One card stands for the eight of the published recipe.
"""

_base_ = './finetune_40e_low_memory.py'

optim_wrapper = dict(accumulative_counts=8)
