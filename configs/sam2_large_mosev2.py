"""SAM 2.1 large fine-tuned on MOSEv2: the recipe of base+ with another backbone."""

_base_ = [
    './_base_/models/sam2_1_large.py',
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
load_from = 'checkpoints/sam2.1_hiera_large.pt'
