"""SAM 2.1 large: the tiny model with the largest backbone and larger windows."""

_base_ = './sam2_1_tiny.py'

model = dict(
    image_encoder=dict(
        backbone=dict(
            embed_dims=144,
            num_heads=2,
            stages=(2, 6, 36, 4),
            global_attention_blocks=(23, 33, 43),
            window_sizes=(8, 4, 16, 8),
        ),
        neck=dict(in_channels=(144, 288, 576, 1152)),
    )
)
