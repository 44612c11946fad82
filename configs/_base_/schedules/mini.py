"""Trains from random weights in minutes: a short warm-up, then cosine decay."""

optim_wrapper = dict(
    type='OptimWrapper',
    constructor='SAM2OptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=8e-4, betas=(0.9, 0.95), weight_decay=0.05),
    clip_grad=dict(max_norm=1.0, norm_type=2),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=60),
    dict(
        type='CosineAnnealingLR',
        eta_min_ratio=0.01,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
]

train_cfg = dict(type='ClipTrainLoop', max_epochs=40, val_interval=10)
val_cfg = dict(type='ClipValLoop')
test_cfg = dict(type='ClipTestLoop')

# For `train.py --auto-scale-lr`: two processes with two clips each.
auto_scale_lr = dict(enable=False, base_batch_size=4)
