"""A small tracker of SAM 3 from random weights on generated clips, on a CPU."""

_base_ = [
    './_base_/models/sam3_tracker_mini.py',
    './_base_/datasets/synthetic.py',
    './_base_/schedules/mini.py',
    './_base_/default_runtime.py',
]

image_size = (112, 112)
train_pipeline = [
    *_base_.train_pipeline[:4],
    dict(type='ClipResize', size=image_size),
    *_base_.train_pipeline[5:],
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))

custom_hooks = [dict(type='EMAHook', momentum=0.01)]
default_hooks = dict(checkpoint=dict(interval=5))
