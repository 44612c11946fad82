"""EdgeTAM fine-tuned on MOSE with SAM 2.1 base+ as teacher.

For own data, give another data set: see ``docs/how_to/distil.md``. Each clip is seen by
a teacher as large as the one that EdgeTAM is compared with.
"""

_base_ = [
    './_base_/distillation/edgetam.py',
    './_base_/datasets/mose.py',
    './_base_/schedules/finetune_40e.py',
    './_base_/default_runtime.py',
]

model = dict(
    teacher='_base_/models/sam2_1_bplus.py',
    teacher_checkpoint='checkpoints/sam2.1_hiera_base_plus.pt',
)
# RepViT has no layers for layer_decay.
optim_wrapper = dict(paramwise_cfg=dict(layer_decay=1.0))
load_from = 'checkpoints/edgetam.pt'
