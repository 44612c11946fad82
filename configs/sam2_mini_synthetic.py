"""A small SAM 2.1 from random weights on generated clips: the quickstart.

An epoch is 36 steps of 8 clips in two processes; checkpoints are written
as often as the model is validated.
"""

_base_ = [
    './_base_/models/sam2_1_mini.py',
    './_base_/datasets/synthetic.py',
    './_base_/schedules/mini.py',
    './_base_/default_runtime.py',
]

default_hooks = dict(checkpoint=dict(interval=4))
