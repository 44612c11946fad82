"""UPerNet on ADE20K, with LoRA adapters in the attention of a frozen Hiera tiny.

Needs ``peft``.
"""

_base_ = './hiera-t_frozen_upernet_8xb2-160k_ade20k-512x512.py'

model = dict(
    backbone=dict(
        adaptations=[
            dict(
                type='SAM2LowRankAdapters',
                layers=['blocks.*.attention'],
                rank=8,
                alpha=16,
            )
        ]
    )
)
# Adapters start untrained and need a higher learning rate than the rest.
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(lora_=dict(lr_mult=5.0))))
