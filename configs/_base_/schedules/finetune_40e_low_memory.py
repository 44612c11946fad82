"""The published schedule in less memory: activations are computed twice."""

_base_ = './finetune_40e.py'

custom_hooks = [
    dict(
        type='SAM2LowMemoryHook',
        parts=[
            'image_encoder.backbone',
            'tracker.memory_attention',
            'tracker.memory_encoder',
            'mask_decoder',
        ],
        frames_at_once=1,
    )
]
