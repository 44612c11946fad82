"""SAM 2.1 base+ fine-tuned on MOSEv2, on 8 GPUs.

The first stage of the fine-tuning that the authors of MOSEv2 published: 20 epochs of
clips of 8 frames. Their augmentation also crops a tenth of the clips.
"""

_base_ = [
    './_base_/models/sam2_1_bplus.py',
    './_base_/datasets/mosev2.py',
    './_base_/evaluation/mosev2.py',
    './_base_/schedules/finetune_40e.py',
    './_base_/default_runtime.py',
]

model = dict(accumulators={{_base_.mosev2_accumulators}})
val_evaluator = {{_base_.mosev2_evaluator}}
test_evaluator = {{_base_.mosev2_evaluator}}
train_cfg = dict(max_epochs=20)
default_hooks = dict(checkpoint=dict(save_best='mosev2/J&F_dot'))
load_from = 'checkpoints/sam2.1_hiera_base_plus.pt'
