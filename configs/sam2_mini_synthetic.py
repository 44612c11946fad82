"""A small SAM 2.1 from random weights on generated clips: the quickstart.

An epoch is 12 steps of 8 clips in two processes: a checkpoint every fifth is enough.
"""

_base_ = [
    './_base_/models/sam2_1_mini.py',
    './_base_/datasets/synthetic.py',
    './_base_/schedules/mini.py',
    './_base_/default_runtime.py',
]

default_hooks = dict(checkpoint=dict(interval=5))
