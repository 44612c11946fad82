"""The tracker of SAM 3, as released: SAM 2.1's heads and memory, SAM 3's image encoder.

SAM 3 was trained with images in [-1, 1], and attends to the four nearest prompted
frames at most. The weights are in the files of the whole SAM 3.
"""

_base_ = './sam2_1_tiny.py'

image_size = (1008, 1008)

model = dict(
    data_preprocessor=dict(
        image_size=image_size,
        mean=(127.5, 127.5, 127.5),
        std=(127.5, 127.5, 127.5),
        size_divisor=336,  # windows of 24 patches of 14 pixels
    ),
    image_encoder=dict(
        backbone=dict(
            _delete_=True,
            type='SAM3ViT',
            embed_dims=1024,
            num_heads=16,
            num_layers=32,
            mlp_dims=4736,
            global_attention_blocks=(7, 15, 23, 31),
            window_size=24,
            patch_size=14,
            position_embedding_size=(24, 24),
            drop_path_rate=0.1,
        ),
        neck=dict(_delete_=True, type='SAM3Neck', in_channels=1024),
    ),
    tracker=dict(memory_bank=dict(max_conditioning_frames=4)),
    prompt_encoder=dict(stride=14),
)
