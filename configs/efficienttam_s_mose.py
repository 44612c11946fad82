"""EfficientTAM-S fine-tuned on MOSE by SAM 2.1's recipe; its own is not published."""

_base_ = [
    './_base_/models/efficienttam_s.py',
    './_base_/datasets/mose.py',
    './_base_/schedules/finetune_40e.py',
    './_base_/default_runtime.py',
]

load_from = 'checkpoints/efficienttam_s.pt'
