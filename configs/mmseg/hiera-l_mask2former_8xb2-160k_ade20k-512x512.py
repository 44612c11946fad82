"""Mask2Former with SAM 2.1's Hiera large on ADE20K."""

_base_ = './hiera-t_mask2former_8xb2-160k_ade20k-512x512.py'

model = dict(
    backbone=dict(
        arch='large',
        drop_path_rate=0.2,
        init_cfg=dict(checkpoint='checkpoints/sam2.1_hiera_large.pt'),
    ),
    decode_head=dict(in_channels=[144, 288, 576, 1152]),
)
