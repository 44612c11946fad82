"""The head of SegFormer on SAM 2.1's Hiera tiny, on ADE20K."""

_base_ = [
    'mmseg::segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512.py',
    '../_base_/mmseg/custom_imports.py',
]

model = dict(
    backbone=dict(
        _delete_=True,
        type='HieraBackbone',
        arch='tiny',
        init_cfg=dict(type='Pretrained', checkpoint='checkpoints/sam2.1_hiera_tiny.pt'),
    ),
    decode_head=dict(in_channels=[96, 192, 384, 768]),
)

optim_wrapper = dict(
    constructor='SAM2OptimWrapperConstructor',
    paramwise_cfg=dict(
        _delete_=True,
        layer_decay=0.9,
        custom_keys={'decode_head': dict(lr_mult=10.0)},
    ),
)

# For `train.py --auto-scale-lr`: 8 processes with two images each.
auto_scale_lr = dict(enable=False, base_batch_size=16)
