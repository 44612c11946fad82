"""A small SAM 2.1 from random weights on LabelMe files, 128 px: a try on a CPU."""

_base_ = [
    './_base_/models/sam2_1_mini.py',
    './_base_/datasets/labelme.py',
    './_base_/schedules/mini.py',
    './_base_/default_runtime.py',
]

clip_size = _base_.image_size  # that of the model
train_pipeline = [
    *_base_.train_pipeline[:4],  # what comes before ClipResize
    dict(type='ClipResize', size=clip_size),
    *_base_.train_pipeline[5:],
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
model = {{_base_.image_validation}}
default_hooks = dict(checkpoint=dict(save_best='mIoU_1_click'))
