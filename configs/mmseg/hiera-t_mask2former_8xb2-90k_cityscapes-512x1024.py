"""Mask2Former with SAM 2.1's Hiera tiny on Cityscapes."""

_base_ = 'mmseg::mask2former/mask2former_r50_8xb2-90k_cityscapes-512x1024.py'

# The stock config imports mmdet.models only, for its head.
custom_imports = dict(
    imports=['projects.sam2.bridges.mmseg', 'mmdet.models'],
    allow_failed_imports=False,
)

model = dict(
    backbone=dict(
        _delete_=True,
        type='HieraBackbone',
        arch='tiny',
        init_cfg=dict(type='Pretrained', checkpoint='checkpoints/sam2.1_hiera_tiny.pt'),
    ),
    decode_head=dict(in_channels=[96, 192, 384, 768]),
)

# Of the stock config, the factors for the backbone's parts are left out.
optim_wrapper = dict(
    constructor='SAM2OptimWrapperConstructor',
    paramwise_cfg=dict(
        _delete_=True,
        backbone_lr_mult=0.1,
        norm_decay_mult=0.0,
        custom_keys={
            name: dict(lr_mult=1.0, decay_mult=0.0)
            for name in ('query_embed', 'query_feat', 'level_embed')
        },
    ),
)
