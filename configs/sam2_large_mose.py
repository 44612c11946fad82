"""SAM 2.1 large fine-tuned on MOSE: the recipe of base+ with another backbone."""

_base_ = [
    './_base_/models/sam2_1_large.py',
    './_base_/datasets/mose.py',
    './_base_/schedules/finetune_40e.py',
    './_base_/default_runtime.py',
]

load_from = 'checkpoints/sam2.1_hiera_large.pt'
