"""EfficientTAM-S/2: pooled memories, with ln 4 added to each component of the keys."""

_base_ = './efficienttam_s.py'

model = dict(
    tracker=dict(
        memory_attention=dict(
            cross_attention=dict(type='EfficientTAMCrossAttention', bias_on='keys')
        )
    )
)
