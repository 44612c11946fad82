"""For 24 GB: checkpoints the activations of backbone and memory attention."""

_base_ = './finetune_40e.py'

custom_hooks = [
    dict(
        type='SAM2LowMemoryHook',
        parts=['image_encoder.backbone', 'tracker.memory_attention'],
        frames_at_once=1,
    )
]
