"""The same head on a ResNet-50 from random weights, to compare with."""

_base_ = './hiera-mini_upernet_1xb8-800i_shapes-64x64.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='ResNet',
        depth=50,
        norm_cfg=dict(type='BN', requires_grad=True),
    ),
    decode_head=dict(in_channels=[256, 512, 1024, 2048]),
    auxiliary_head=dict(in_channels=1024),
)
