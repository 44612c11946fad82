"""SAM 2.1 base+ fine-tuned on MOSE on GPUs with 16 GB: the image encoder is frozen."""

_base_ = [
    './_base_/models/sam2_1_bplus.py',
    './_base_/datasets/mose.py',
    './_base_/schedules/finetune_16gb.py',
    './_base_/default_runtime.py',
]

model = dict(adaptations=[dict(type='SAM2Freezing', parts=['image_encoder'])])

load_from = 'checkpoints/sam2.1_hiera_base_plus.pt'
