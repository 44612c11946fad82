"""Mask R-CNN with SAM 2.1's Hiera tiny on COCO; the schedule is that of Swin-T."""

_base_ = [
    'mmdet::swin/mask-rcnn_swin-t-p4-w7_fpn_ms-crop-3x_coco.py',
    '../_base_/mmdet/custom_imports.py',
]

model = dict(
    backbone=dict(
        _delete_=True,
        type='HieraBackbone',
        arch='tiny',
        drop_path_rate=0.2,
        init_cfg=dict(type='Pretrained', checkpoint='checkpoints/sam2.1_hiera_tiny.pt'),
    ),
)

optim_wrapper = dict(
    constructor='SAM2OptimWrapperConstructor',
    paramwise_cfg=dict(_delete_=True, layer_decay=0.9),
)
