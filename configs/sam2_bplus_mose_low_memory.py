"""SAM 2.1 base+ fine-tuned on MOSE in less memory, at the cost of time."""

_base_ = [
    './_base_/models/sam2_1_bplus.py',
    './_base_/datasets/mose.py',
    './_base_/schedules/finetune_40e_low_memory.py',
    './_base_/default_runtime.py',
]

load_from = 'checkpoints/sam2.1_hiera_base_plus.pt'
