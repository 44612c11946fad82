"""A student of the mini SAM 2.1: fewer blocks and channels, features of the same shape.

The image encoder has half the channels and 4 blocks in place of 7, memory attention one
layer in place of two.
"""

_base_ = './sam2_1_mini.py'

model = dict(
    image_encoder=dict(
        backbone=dict(
            embed_dims=8,
            stages=(1, 1, 1, 1),
            global_attention_blocks=(2,),
        ),
        neck=dict(in_channels=(8, 16, 32, 64)),
    ),
    tracker=dict(memory_attention=dict(num_layers=1)),
)
