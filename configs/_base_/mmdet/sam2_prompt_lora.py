"""Adapters in SAM 2's image encoder, and a trained mask decoder. Needs ``peft``."""

adapted_sam2 = dict(
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
# Adapters start untrained and need a higher learning rate; the mask decoder is good
# already, and gets a lower one.
adapted_rates = {'lora_': dict(lr_mult=5.0), 'mask_decoder': dict(lr_mult=0.1)}
# The decoder's tokens of several masks are not used.
find_unused_parameters = True
