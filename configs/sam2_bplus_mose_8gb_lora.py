"""SAM 2.1 base+ on one card of 8 GB: beside the decoder, low-rank adapters are trained.

They stand in the attention of trunk and memory attention; all else is frozen. Needs
``peft``.
"""

_base_ = './sam2_bplus_mose_8gb.py'

model = dict(
    adaptations=[
        dict(type='SAM2Freezing', parts=['*'], but=['mask_decoder']),
        dict(
            type='SAM2LowRankAdapters',
            layers=[
                'image_encoder.backbone.blocks.*.attention',
                'tracker.memory_attention.layers.*attention',
            ],
            rank=8,
            alpha=16,
        ),
    ]
)
# Adapters begin anew and learn at a rate of their own.
optim_wrapper = dict(
    optimizer=dict(lr=1e-4),
    paramwise_cfg=dict(backbone_lr_mult=1.0, layer_decay=1.0),
)
