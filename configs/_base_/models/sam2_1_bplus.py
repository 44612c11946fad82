"""SAM 2.1 base+: the tiny model with a wider and deeper backbone."""

_base_ = './sam2_1_tiny.py'

model = dict(
    image_encoder=dict(
        backbone=dict(
            embed_dims=112,
            num_heads=2,
            stages=(2, 3, 16, 3),
            global_attention_blocks=(12, 16, 20),
            position_embedding_size=(14, 14),
        ),
        neck=dict(in_channels=(112, 224, 448, 896)),
    )
)
