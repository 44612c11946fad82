"""For 16 GB: the published schedule, all parts computed twice, two clips to a step.

Fewer processes fit few cards; gradients of two clips are added up.
"""

_base_ = './finetune_40e_low_memory.py'

optim_wrapper = dict(accumulative_counts=2)
