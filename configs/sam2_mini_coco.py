"""A small SAM 2.1 from random weights on COCO's format at 128 px: a trial on a CPU."""

_base_ = [
    './_base_/models/sam2_1_mini.py',
    './_base_/datasets/coco.py',
    './_base_/schedules/mini.py',
    './_base_/default_runtime.py',
]

clip_size = _base_.image_size  # as the model's
train_pipeline = [
    dict(type='ClipSampleFrames', num_frames=1, max_num_objects=8),
    *_base_.load_clip,
    dict(type='ClipResize', size=clip_size),
    dict(type='ClipWarp'),
    dict(type='ClipPack'),
]
train_dataloader = dict(num_workers=2, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(num_workers=1)
test_dataloader = val_dataloader
model = {{_base_.image_validation}}
default_hooks = dict(checkpoint=dict(save_best='mIoU_1_click'))
