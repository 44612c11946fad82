"""SAM 2.1's published fine-tuning: 40 epochs at 5e-6, image encoder at 3e-6."""

optim_wrapper = dict(
    type='SAM2BFloat16OptimWrapper',
    constructor='SAM2OptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=5e-6, weight_decay=0.1),
    paramwise_cfg=dict(backbone_lr_mult=0.6, layer_decay=0.9),
    clip_grad=dict(max_norm=0.1, norm_type=2),
)
# The rate of every parameter group decays to a tenth.
param_scheduler = [
    dict(
        type='CosineAnnealingLR',
        eta_min_ratio=0.1,
        by_epoch=True,
        convert_to_iter_based=True,
    )
]

train_cfg = dict(type='ClipTrainLoop', max_epochs=40, val_interval=5)
val_cfg = dict(type='ClipValLoop')
test_cfg = dict(type='ClipTestLoop')

# `train.py --auto-scale-lr` scales the learning rate by the clips per step over this
# number: 8 GPUs with a clip each.
auto_scale_lr = dict(enable=False, base_batch_size=8)
