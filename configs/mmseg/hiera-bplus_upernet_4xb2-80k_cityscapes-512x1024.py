"""UPerNet with SAM 2.1's Hiera base+ on Cityscapes."""

_base_ = './hiera-t_upernet_4xb2-80k_cityscapes-512x1024.py'

model = dict(
    backbone=dict(
        arch='bplus',
        init_cfg=dict(checkpoint='checkpoints/sam2.1_hiera_base_plus.pt'),
    ),
    decode_head=dict(in_channels=[112, 224, 448, 896]),
    auxiliary_head=dict(in_channels=448),
)
