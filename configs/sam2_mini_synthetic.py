"""A small SAM 2.1 from random weights on generated clips: the quickstart.

An epoch is 24 steps of 4 clips in two processes. An EMA averages the weights of about
the last hundred steps, since the learning rate stays high for long.
"""

_base_ = [
    './_base_/models/sam2_1_mini.py',
    './_base_/datasets/synthetic.py',
    './_base_/schedules/mini.py',
    './_base_/default_runtime.py',
]

custom_hooks = [dict(type='EMAHook', momentum=0.01)]
default_hooks = dict(checkpoint=dict(interval=5))
