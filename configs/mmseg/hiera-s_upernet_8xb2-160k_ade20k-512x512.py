"""UPerNet with SAM 2.1's Hiera small on ADE20K."""

_base_ = './hiera-t_upernet_8xb2-160k_ade20k-512x512.py'

model = dict(
    backbone=dict(
        arch='small', init_cfg=dict(checkpoint='checkpoints/sam2.1_hiera_small.pt')
    )
)
