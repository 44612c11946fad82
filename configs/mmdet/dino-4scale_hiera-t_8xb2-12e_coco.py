"""DINO with four levels of SAM 2.1's Hiera tiny on COCO."""

_base_ = [
    'mmdet::dino/dino-4scale_r50_8xb2-12e_coco.py',
    '../_base_/mmdet/custom_imports.py',
]

model = dict(
    backbone=dict(
        _delete_=True,
        type='HieraBackbone',
        arch='tiny',
        out_indices=(1, 2, 3),
        init_cfg=dict(type='Pretrained', checkpoint='checkpoints/sam2.1_hiera_tiny.pt'),
    ),
    neck=dict(in_channels=[192, 384, 768]),
)

optim_wrapper = dict(
    constructor='SAM2OptimWrapperConstructor',
    paramwise_cfg=dict(_delete_=True, backbone_lr_mult=0.1),
)
