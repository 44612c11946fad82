"""SAM 2.1 tiny on your images with LabelMe files; validates with boxes and clicks."""

_base_ = [
    './_base_/models/sam2_1_tiny.py',
    './_base_/datasets/labelme.py',
    './_base_/schedules/finetune_40e.py',
    './_base_/default_runtime.py',
]

model = {{_base_.image_validation}}
default_hooks = dict(checkpoint=dict(save_best='mIoU_1_click'))
load_from = 'checkpoints/sam2.1_hiera_tiny.pt'
