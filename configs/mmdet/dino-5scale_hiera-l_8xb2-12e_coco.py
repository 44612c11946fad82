"""DINO with five levels of SAM 2.1's Hiera large on COCO."""

_base_ = [
    'mmdet::dino/dino-5scale_swin-l_8xb2-12e_coco.py',
    '../_base_/mmdet/custom_imports.py',
]

model = dict(
    backbone=dict(
        _delete_=True,
        type='HieraBackbone',
        arch='large',
        drop_path_rate=0.2,
        with_cp=True,
        init_cfg=dict(
            type='Pretrained', checkpoint='checkpoints/sam2.1_hiera_large.pt'
        ),
    ),
    neck=dict(in_channels=[144, 288, 576, 1152]),
)

optim_wrapper = dict(
    constructor='SAM2OptimWrapperConstructor',
    paramwise_cfg=dict(_delete_=True, backbone_lr_mult=0.1),
)
