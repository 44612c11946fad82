"""A student of the quickstart's model on the same clips, without a teacher."""

_base_ = [
    './_base_/models/sam2_1_mini_student.py',
    './_base_/datasets/synthetic.py',
    './_base_/schedules/mini.py',
    './_base_/default_runtime.py',
]

custom_hooks = [dict(type='EMAHook', momentum=0.01)]
default_hooks = dict(checkpoint=dict(interval=5))
