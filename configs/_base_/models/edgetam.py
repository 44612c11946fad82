"""EdgeTAM, as released, with the prompts of SAM 2's published fine-tuning recipe.

SAM 2.0 with a convolutional backbone, and with memories of 512 tokens in place of maps.
The sides of the image are multiples of 256, so that the grid of 16 x 16 tokens divides
the map.
"""

_base_ = './sam2_0_tiny.py'

model = dict(
    image_encoder=dict(
        backbone=dict(_delete_=True, type='EdgeTAMRepViT'),
        neck=dict(in_channels=(48, 96, 192, 384)),
    ),
    tracker=dict(
        type='EdgeTAMTracker',
        perceiver=dict(type='EdgeTAMPerceiver'),
        memory_attention=dict(
            num_layers=2, cross_attention=dict(type='EdgeTAMCrossAttention')
        ),
    ),
)
