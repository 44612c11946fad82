"""SAM 2.1 tiny on own images with a PNG of labels each, validated with box prompts."""

_base_ = [
    './_base_/models/sam2_1_tiny.py',
    './_base_/datasets/label_images.py',
    './_base_/schedules/finetune_40e.py',
    './_base_/default_runtime.py',
]

model = {{_base_.image_validation}}
load_from = 'checkpoints/sam2.1_hiera_tiny.pt'
