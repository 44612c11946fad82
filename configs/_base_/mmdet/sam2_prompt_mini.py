"""Learned prompts for a frozen small SAM 2.1, the one of the notebooks."""

_base_ = ['../models/sam2_1_mini.py', './sam2_prompt_detector.py']

model = dict(
    _delete_=True,
    backbone=dict(
        adaptations=[dict(type='SAM2Freezing', parts=['*'])],
        init_cfg=dict(type='Pretrained', checkpoint='docs/weights/sam2_mini.pth'),
        **_base_.model,
    ),
    **_base_.prompt_detector,
)
