"""Fine-tunes SAM 2.1's mask decoder, and LoRA adapters in the image encoder, on COCO.

Needs ``peft``.
"""

_base_ = './sam2_mask_detector_rtmdet-tiny_coco_finetune.py'

model = dict(
    sam2=dict(
        adaptations=[
            dict(type='SAM2Freezing', parts=['*'], but=['mask_decoder']),
            dict(
                type='SAM2LowRankAdapters',
                layers=['image_encoder.backbone.blocks.*.attention'],
                rank=8,
                alpha=16,
            ),
        ]
    )
)
# Adapters start untrained and need a higher learning rate.
optim_wrapper = dict(optimizer=dict(lr=1e-4))
