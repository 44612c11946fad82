"""SAM 2.1 base+ fine-tuned on MOSE as published, on GPUs with 40 GB."""

_base_ = [
    './_base_/models/sam2_1_bplus.py',
    './_base_/datasets/mose.py',
    './_base_/schedules/finetune_40gb.py',
    './_base_/default_runtime.py',
]

load_from = 'checkpoints/sam2.1_hiera_base_plus.pt'
