"""For 24 GB: the published schedule, trunk and memory attention computed twice."""

_base_ = './finetune_40e.py'

custom_hooks = [
    dict(
        type='SAM2LowMemoryHook',
        parts=['image_encoder.backbone', 'tracker.memory_attention'],
        frames_at_once=1,
    )
]
