"""A small EfficientTAM at 128 px, to be trained from random weights on a CPU.

It has every part of the released models, with pooled memories as in those that end with
``_1``. Training differs as in ``sam2_1_mini.py``.
"""

_base_ = './sam2_1_mini.py'

embed_dims = 64
model = dict(
    image_encoder=dict(
        backbone=dict(
            _delete_=True,
            type='EfficientTAMViT',
            embed_dims=48,
            num_heads=3,
            num_blocks=6,
            global_attention_blocks=(2, 5),
            window_size=4,
            position_embedding_size=(8, 8),
        ),
        neck=dict(
            _delete_=True,
            type='EfficientTAMNeck',
            in_channels=48,
            out_channels=embed_dims,
        ),
    ),
    tracker=dict(
        memory_attention=dict(
            cross_attention=dict(type='EfficientTAMCrossAttention', bias_on='logits')
        ),
        object_pointer=dict(time_encoding='none'),
        no_object_embedding=False,
    ),
    mask_decoder=dict(high_res_features=False),
)
