"""The published schedule in the least memory.

Activations are computed twice, and objects are trained one after another.
"""

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
        objects_at_once=1,
    )
]
