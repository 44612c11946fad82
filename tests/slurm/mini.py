"""The quickstart with a smaller model and more, faster steps."""

_base_ = ['../../configs/sam2_mini_synthetic.py']

clip_size = (64, 64)
model = dict(
    data_preprocessor=dict(image_size=clip_size),
    image_encoder=dict(
        backbone=dict(embed_dims=8), neck=dict(in_channels=(8, 16, 32, 64))
    ),
)
train_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type='ClipSampleFrames', num_frames=3, max_num_objects=2),
            dict(type='ClipLoadFrames'),
            dict(type='ClipLoadMasklets'),
            dict(type='ClipResize', size=clip_size),
            dict(type='ClipWarp'),
            dict(type='ClipPack'),
        ]
    )
)
train_cfg = dict(max_epochs=8, val_interval=4)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=4),
]
# Few checkpoints: the one that a signal writes must not exist anyway.
default_hooks = dict(
    checkpoint=dict(interval=4, max_keep_ckpts=2), logger=dict(interval=1)
)
