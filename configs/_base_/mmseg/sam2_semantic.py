"""A map of classes by SAM 2.1 tiny: its encoder is frozen, its mask decoder trained."""

_base_ = [
    'mmseg::_base_/default_runtime.py',
    'mmseg::_base_/schedules/schedule_80k.py',
    './custom_imports.py',
]

pretrained = dict(type='Pretrained', checkpoint='checkpoints/sam2.1_hiera_tiny.pt')

model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
        size=(512, 512),
    ),
    backbone=dict(
        type='HieraBackbone', arch='tiny', frozen_stages=4, init_cfg=pretrained
    ),
    neck=dict(
        type='HieraPyramid', in_channels=(96, 192, 384, 768), init_cfg=pretrained
    ),
    decode_head=dict(
        type='SAM2SemanticHead',
        num_classes=150,
        loss_decode=[
            dict(type='CrossEntropyLoss'),
            dict(type='DiceLoss', loss_name='loss_dice'),
        ],
        init_cfg=pretrained,
    ),
    test_cfg=dict(mode='whole'),
)

optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-4, weight_decay=0.05),
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=500),
    dict(type='PolyLR', power=1.0, by_epoch=False, begin=500, end=80000, eta_min=0.0),
]
default_hooks = dict(
    checkpoint=dict(max_keep_ckpts=2, save_best='mIoU', rule='greater')
)
# For `train.py --auto-scale-lr`: 4 processes with four images each.
auto_scale_lr = dict(enable=False, base_batch_size=16)
