"""UPerNet with SAM 2.1's Hiera tiny on ADE20K; the schedule is that of Swin-T."""

_base_ = [
    'mmseg::swin/swin-tiny-patch4-window7-in1k-pre_upernet_8xb2-160k_ade20k-512x512.py',
    '../_base_/mmseg/custom_imports.py',
]

model = dict(
    backbone=dict(
        _delete_=True,
        type='HieraBackbone',
        arch='tiny',
        init_cfg=dict(type='Pretrained', checkpoint='checkpoints/sam2.1_hiera_tiny.pt'),
    ),
)

optim_wrapper = dict(
    constructor='SAM2OptimWrapperConstructor',
    paramwise_cfg=dict(_delete_=True, layer_decay=0.9),
)

# For `train.py --auto-scale-lr`: 8 processes with two images each.
auto_scale_lr = dict(enable=False, base_batch_size=16)
