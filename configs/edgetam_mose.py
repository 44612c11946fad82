"""EdgeTAM fine-tuned on MOSE: the recipe of SAM 2.1, from the released weights.

BatchNorm keeps its statistics: the frames of a GPU are those of one clip, too alike to
measure new ones. With several clips for each GPU it may learn them, with
``norm_eval=False`` and, on several GPUs, ``sync_bn='torch'``.
"""

_base_ = [
    './_base_/models/edgetam.py',
    './_base_/datasets/mose.py',
    './_base_/schedules/finetune_40e.py',
    './_base_/default_runtime.py',
]

model = dict(image_encoder=dict(backbone=dict(norm_eval=True)))

load_from = 'checkpoints/edgetam.pt'
