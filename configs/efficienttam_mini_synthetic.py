"""A small EfficientTAM from random weights on the quickstart's generated clips."""

_base_ = [
    './_base_/models/efficienttam_mini.py',
    './_base_/datasets/synthetic.py',
    './_base_/schedules/mini.py',
    './_base_/default_runtime.py',
]

custom_hooks = [dict(type='EMAHook', momentum=0.01)]
default_hooks = dict(checkpoint=dict(interval=5))
