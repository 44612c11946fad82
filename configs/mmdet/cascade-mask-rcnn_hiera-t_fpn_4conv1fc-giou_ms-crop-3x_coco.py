"""Cascade Mask R-CNN with SAM 2.1's Hiera tiny on COCO; the recipe of ConvNeXt-T."""

_base_ = (
    'mmdet::convnext/'
    'cascade-mask-rcnn_convnext-t-p4-w7_fpn_4conv1fc-giou_amp-ms-crop-3x_coco.py'
)

# The stock config imports mmpretrain, for its ConvNeXt.
custom_imports = dict(
    imports=['projects.sam2.bridges.mmdet'], allow_failed_imports=False
)

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
    type='OptimWrapper',  # mixed precision by `train.py --amp`, in bfloat16
    constructor='SAM2OptimWrapperConstructor',
    paramwise_cfg=dict(_delete_=True, layer_decay=0.9),
)
