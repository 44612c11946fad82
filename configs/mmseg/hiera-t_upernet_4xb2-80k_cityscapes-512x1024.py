"""UPerNet with SAM 2.1's Hiera tiny on Cityscapes."""

_base_ = [
    'mmseg::upernet/upernet_r50_4xb2-80k_cityscapes-512x1024.py',
    '../_base_/mmseg/custom_imports.py',
]

model = dict(
    pretrained=None,
    backbone=dict(
        _delete_=True,
        type='HieraBackbone',
        arch='tiny',
        init_cfg=dict(type='Pretrained', checkpoint='checkpoints/sam2.1_hiera_tiny.pt'),
    ),
    decode_head=dict(in_channels=[96, 192, 384, 768]),
    auxiliary_head=dict(in_channels=384),
)

# The stock config trains a ResNet by SGD; a transformer needs AdamW and a warm-up.
optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    constructor='SAM2OptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=6e-5, betas=(0.9, 0.999), weight_decay=0.01),
    paramwise_cfg=dict(layer_decay=0.9),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=1500),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=1500, end=80000),
]

# For `train.py --auto-scale-lr`: 4 processes with two images each.
auto_scale_lr = dict(enable=False, base_batch_size=8)
