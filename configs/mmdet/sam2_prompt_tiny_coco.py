"""Masks with COCO's 80 classes: a Mask R-CNN learns to prompt a frozen SAM 2.1 tiny.

Trained are the FPN, the RPN and the heads.
"""

_base_ = [
    '../_base_/mmdet/sam2_prompt_tiny.py',
    '../_base_/mmdet/sam2_prompt_run.py',
]
