"""For 40 GB: checkpoints the activations of the backbone."""

_base_ = './finetune_40e.py'

custom_hooks = [dict(type='SAM2LowMemoryHook', parts=['image_encoder.backbone'])]
