"""The head of SegFormer on SAM 2.1's Hiera tiny, on crops of Cityscapes."""

_base_ = [
    'mmseg::_base_/models/segformer_mit-b0.py',
    'mmseg::_base_/datasets/cityscapes.py',
    'mmseg::_base_/default_runtime.py',
    'mmseg::_base_/schedules/schedule_160k.py',
    '../_base_/mmseg/custom_imports.py',
]

model = dict(
    data_preprocessor=dict(size=(512, 1024)),
    backbone=dict(
        _delete_=True,
        type='HieraBackbone',
        arch='tiny',
        init_cfg=dict(type='Pretrained', checkpoint='checkpoints/sam2.1_hiera_tiny.pt'),
    ),
    decode_head=dict(in_channels=[96, 192, 384, 768]),
)

optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    constructor='SAM2OptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=6e-5, betas=(0.9, 0.999), weight_decay=0.01),
    paramwise_cfg=dict(
        layer_decay=0.9, custom_keys={'decode_head': dict(lr_mult=10.0)}
    ),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=1500),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=1500, end=160000),
]
train_dataloader = dict(batch_size=1)

# For `train.py --auto-scale-lr`: 8 processes with one image each.
auto_scale_lr = dict(enable=False, base_batch_size=8)
