"""Mask2Former with SAM 2.1's Hiera tiny: instance segmentation on COCO."""

_base_ = [
    'mmdet::mask2former/mask2former_r50_8xb2-lsj-50e_coco.py',
    '../_base_/mmdet/custom_imports.py',
]

model = dict(
    backbone=dict(
        _delete_=True,
        type='HieraBackbone',
        arch='tiny',
        init_cfg=dict(type='Pretrained', checkpoint='checkpoints/sam2.1_hiera_tiny.pt'),
    ),
    panoptic_head=dict(in_channels=[96, 192, 384, 768]),
)

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
