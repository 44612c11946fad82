"""RTMDet-l with SAM 2.1's Hiera tiny on COCO; the recipe of Swin-B."""

_base_ = [
    'mmdet::rtmdet/rtmdet_l_swin_b_4xb32-100e_coco.py',
    '../_base_/mmdet/custom_imports.py',
]

model = dict(
    # The largest map of a detector's head must be a whole number of strides.
    data_preprocessor=dict(pad_size_divisor=32),
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
    paramwise_cfg=dict(layer_decay=0.9),
)
