"""UPerNet with SAM 2.1's Hiera base+ on ADE20K."""

_base_ = './hiera-t_upernet_8xb2-160k_ade20k-512x512.py'

model = dict(
    backbone=dict(
        arch='bplus',
        init_cfg=dict(checkpoint='checkpoints/sam2.1_hiera_base_plus.pt'),
    ),
    decode_head=dict(in_channels=[112, 224, 448, 896]),
    auxiliary_head=dict(in_channels=448),
)
