"""SAM 2.1 base+ on one GPU with 8 GB: trains the mask decoder and LoRA adapters.

The adapters are in the attention of the backbone and in memory attention; everything
else is frozen. Needs ``peft``.
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
# Adapters start untrained and need a higher learning rate.
optim_wrapper = dict(
    optimizer=dict(lr=1e-4),
    paramwise_cfg=dict(backbone_lr_mult=1.0, layer_decay=1.0),
)
