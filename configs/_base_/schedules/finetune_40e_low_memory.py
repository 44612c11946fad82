"""The published schedule in the least memory.

The activations of all parts are checkpointed, and objects are trained one at a time.
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
