"""SAM 2.1 small: the tiny model with a deeper third stage."""

_base_ = './sam2_1_tiny.py'

model = dict(
    image_encoder=dict(
        backbone=dict(stages=(1, 2, 11, 2), global_attention_blocks=(7, 10, 13))
    )
)
