"""SAM 2.1 tiny on MOSE for interactive use: trains and validates with clicks."""

_base_ = [
    './_base_/models/sam2_1_tiny.py',
    './_base_/datasets/mose.py',
    './_base_/evaluation/interactive.py',
    './_base_/schedules/finetune_40e.py',
    './_base_/default_runtime.py',
]

model = dict(
    prompt_simulator=dict(point_probability=1.0),
    val_prompt_simulator={{_base_.online_user}},
    accumulators={{_base_.interactive_accumulators}},
)
val_evaluator = {{_base_.interactive_evaluator}}
test_evaluator = {{_base_.interactive_evaluator}}
default_hooks = dict(checkpoint=dict(save_best='J&F_mean'))
load_from = 'checkpoints/sam2.1_hiera_tiny.pt'
