"""EdgeTAM's optimizer: AdamW at 3e-4 for a batch of 256, with cosine decay.

Second-hand (see ``_base_/distillation/edgetam.py``): the optimizer, its rate for all
but the image encoder, weight decay, clipping and the cosine. Not known and chosen here:
the rate of the image encoder, a fifth as in SAM 2's training, and the warm-up.
"""

_base_ = './finetune_40e.py'

optim_wrapper = dict(
    optimizer=dict(lr=3e-4, weight_decay=0.1),
    paramwise_cfg=dict(_delete_=True, backbone_lr_mult=0.2),
    clip_grad=dict(max_norm=0.1, norm_type=2),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=1000),
    dict(
        type='CosineAnnealingLR',
        eta_min_ratio=0.01,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
]
# For `train.py --auto-scale-lr`: clips of an optimizer step.
auto_scale_lr = dict(enable=False, base_batch_size=256)
