"""EfficientTAM-S: EfficientTAM-Ti on a plain ViT-S."""

_base_ = './efficienttam_ti.py'

model = dict(
    image_encoder=dict(
        backbone=dict(embed_dims=384, num_heads=6), neck=dict(in_channels=384)
    )
)
