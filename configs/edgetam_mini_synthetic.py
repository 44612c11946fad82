"""A small EdgeTAM from random weights on generated clips, on a CPU.

Everything but the model is that of ``sam2_mini_synthetic.py``. BatchNorm learns its
statistics from the clips of a step, those of each process apart.
"""

_base_ = [
    './_base_/models/edgetam_mini.py',
    './_base_/datasets/synthetic.py',
    './_base_/schedules/mini.py',
    './_base_/default_runtime.py',
]

custom_hooks = [dict(type='EMAHook', momentum=0.01)]
default_hooks = dict(checkpoint=dict(interval=5))
