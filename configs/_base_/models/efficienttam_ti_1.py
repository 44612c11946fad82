"""EfficientTAM-Ti/1: pooled memories, whose logits are raised by ln 4."""

_base_ = './efficienttam_ti.py'

model = dict(
    tracker=dict(
        memory_attention=dict(
            cross_attention=dict(type='EfficientTAMCrossAttention', bias_on='logits')
        )
    )
)
