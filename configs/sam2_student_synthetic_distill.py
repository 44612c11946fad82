"""A student of the quickstart's model on the same clips, with that model as teacher."""

_base_ = './sam2_student_synthetic.py'

model = dict(
    type='SAM2Distillation',
    teacher='sam2_mini_synthetic',
    teacher_checkpoint='work_dirs/quickstart/best_JF_epoch_72.pth',
    init_from_teacher=['tracker', 'prompt_encoder', 'mask_decoder'],
    feature_losses=[
        dict(type='SAM2FeatureLoss', feature='image', weight=1.0),
        dict(type='SAM2FeatureLoss', feature='memory', weight=1.0),
    ],
)
