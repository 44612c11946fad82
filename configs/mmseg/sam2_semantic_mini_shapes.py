"""A map of classes by a small SAM 2.1 on generated shapes: a trial on a CPU.

Data: ``python tools/dataset_converters/make_shapes.py data/shapes``. All is trained but
what no class map has, since the small SAM 2 has seen cells only.
"""

_base_ = './hiera-mini_upernet_1xb8-800i_shapes-64x64.py'

pretrained = dict(type='Pretrained', checkpoint='docs/weights/sam2_mini.pth')
model = dict(
    backbone=dict(init_cfg=pretrained),
    neck=dict(
        type='HieraPyramid',
        in_channels=(16, 32, 64, 128),
        out_channels=64,
        init_cfg=pretrained,
    ),
    decode_head=dict(
        _delete_=True,
        type='SAM2SemanticHead',
        num_classes=_base_.num_classes,
        embed_dims=64,
        mask_decoder=dict(mlp_dims=128),
        init_cfg=pretrained,
    ),
    auxiliary_head=None,
)
