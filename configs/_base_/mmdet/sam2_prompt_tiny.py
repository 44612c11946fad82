"""Learned prompts for a frozen SAM 2.1 tiny."""

_base_ = ['../models/sam2_1_tiny.py', './sam2_prompt_detector.py']

model = dict(
    _delete_=True,
    backbone=dict(
        adaptations=[dict(type='SAM2Freezing', parts=['*'])],
        init_cfg=dict(type='Pretrained', checkpoint='checkpoints/sam2.1_hiera_tiny.pt'),
        **_base_.model,
    ),
    **_base_.prompt_detector,
)
