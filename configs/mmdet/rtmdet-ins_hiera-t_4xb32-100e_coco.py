"""RTMDet-Ins-l with SAM 2.1's Hiera tiny on COCO."""

_base_ = [
    'mmdet::rtmdet/rtmdet-ins_l_8xb32-300e_coco.py',
    '../_base_/mmdet/custom_imports.py',
]

norm_cfg = dict(type='GN', num_groups=32)
model = dict(
    # Hiera's colours are RGB, and a side must be a whole number of strides.
    data_preprocessor=dict(
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_size_divisor=32,
    ),
    backbone=dict(
        _delete_=True,
        type='HieraBackbone',
        arch='tiny',
        out_indices=(1, 2, 3),
        init_cfg=dict(type='Pretrained', checkpoint='checkpoints/sam2.1_hiera_tiny.pt'),
    ),
    neck=dict(in_channels=[192, 384, 768], norm_cfg=norm_cfg),
    bbox_head=dict(norm_cfg=norm_cfg),
)

max_epochs = 100
stage2_num_epochs = 10
base_lr = 0.001
train_cfg = dict(
    max_epochs=max_epochs,
    dynamic_intervals=[(max_epochs - stage2_num_epochs, 1)],
)
optim_wrapper = dict(
    constructor='SAM2OptimWrapperConstructor',
    optimizer=dict(lr=base_lr),
    paramwise_cfg=dict(layer_decay=0.9),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-5, by_epoch=False, begin=0, end=1000),
    dict(
        type='CosineAnnealingLR',
        eta_min=base_lr * 0.05,
        begin=max_epochs // 2,
        end=max_epochs,
        T_max=max_epochs // 2,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
]
custom_hooks = [
    dict(
        type='EMAHook',
        ema_type='ExpMomentumEMA',
        momentum=0.0002,
        update_buffers=True,
        priority=49,
    ),
    dict(
        type='PipelineSwitchHook',
        switch_epoch=max_epochs - stage2_num_epochs,
        switch_pipeline={{_base_.train_pipeline_stage2}},
    ),
]
