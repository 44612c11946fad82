"""EfficientTAM-Ti: SAM 2.0 on a plain ViT-Ti, without high-resolution features."""

_base_ = './sam2_0_tiny.py'

model = dict(
    image_encoder=dict(
        backbone=dict(
            _delete_=True,
            type='EfficientTAMViT',
            embed_dims=192,
            num_heads=3,
            drop_path_rate=0.0,
        ),
        neck=dict(_delete_=True, type='EfficientTAMNeck', in_channels=192),
    ),
    mask_decoder=dict(high_res_features=False),
)
