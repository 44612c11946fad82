"""EdgeTAM fine-tuned on MOSE with a frozen image encoder, for GPUs with 16 GB.

Only tracker, prompt encoder and mask decoder learn; the image encoder stays in eval
mode, so BatchNorm keeps its statistics.
"""

_base_ = [
    './_base_/models/edgetam.py',
    './_base_/datasets/mose.py',
    './_base_/schedules/finetune_16gb.py',
    './_base_/default_runtime.py',
]

model = dict(adaptations=[dict(type='SAM2Freezing', parts=['image_encoder'])])

load_from = 'checkpoints/edgetam.pt'
