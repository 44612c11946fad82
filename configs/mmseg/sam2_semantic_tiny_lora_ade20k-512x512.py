"""A map of ADE20K's 150 classes by a SAM 2.1 tiny with adapters. Needs ``peft``."""

_base_ = './sam2_semantic_tiny_ade20k-512x512.py'

adapters = dict(
    type='SAM2LowRankAdapters', layers=['blocks.*.attention'], rank=8, alpha=16
)
model = dict(backbone=dict(adaptations=[adapters]))
# Adapters start untrained and need a higher learning rate than the rest.
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={'lora_': dict(lr_mult=5.0)}))
