"""For 40 GB: the published schedule, the trunk computed twice."""

_base_ = './finetune_40e.py'

custom_hooks = [dict(type='SAM2LowMemoryHook', parts=['image_encoder.backbone'])]
