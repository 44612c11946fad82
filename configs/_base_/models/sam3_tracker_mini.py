"""A small tracker of SAM 3 at 112 px, to be trained from random weights on a CPU.

See ``sam2_1_mini.py``, from which only the image encoder and its sizes differ.
"""

_base_ = './sam2_1_mini.py'

image_size = (112, 112)

model = dict(
    data_preprocessor=dict(
        image_size=image_size,
        mean=(127.5, 127.5, 127.5),
        std=(127.5, 127.5, 127.5),
        size_divisor=56,  # windows of 4 patches of 14 pixels
    ),
    image_encoder=dict(
        backbone=dict(
            _delete_=True,
            type='SAM3ViT',
            embed_dims=64,
            num_heads=2,
            num_layers=4,
            mlp_dims=296,
            global_attention_blocks=(1, 3),
            window_size=4,
            position_embedding_size=(4, 4),
        ),
        neck=dict(_delete_=True, type='SAM3Neck', in_channels=64, out_channels=64),
    ),
    prompt_encoder=dict(stride=14),
)
