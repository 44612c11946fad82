"""EdgeTAM, stage 1: images of SA-1B, with the teacher's image features.

Second-hand (see ``_base_/distillation/edgetam.py``): the data, a batch of 128, the
image loss, and that memory takes no part. Not known and chosen here: the learning rate
of 4e-4, two epochs, up to 32 objects of an image, and random weights at the start.
"""

_base_ = [
    './_base_/distillation/edgetam.py',
    './_base_/datasets/sa1b.py',
    './_base_/schedules/edgetam.py',
    './_base_/default_runtime.py',
]

model = dict(
    **_base_.image_validation,
    feature_losses=[dict(type='SAM2FeatureLoss', feature='image', weight=1.0)],
)
train_pipeline = [
    dict(type='ClipSampleFrames', num_frames=1, max_num_objects=32),
    *_base_.train_pipeline[1:],
]
# 16 GPUs with 8 images each.
train_dataloader = dict(batch_size=8, dataset=dict(pipeline=train_pipeline))
optim_wrapper = dict(
    optimizer=dict(lr=4e-4),
    paramwise_cfg=dict(backbone_lr_mult=1.0),
)
train_cfg = dict(max_epochs=2, val_interval=1)
auto_scale_lr = dict(base_batch_size=128)
default_hooks = dict(checkpoint=dict(save_best='mIoU_1_click'))
