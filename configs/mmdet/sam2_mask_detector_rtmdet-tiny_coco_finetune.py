"""Fine-tunes SAM 2.1's mask decoder on COCO's boxes and masks; RTMDet tiny is frozen.

The checkpoint of a run holds the detector and SAM 2.
"""

_base_ = './sam2_mask_detector_rtmdet-tiny_coco.py'

model = dict(
    detector_checkpoint=(
        'checkpoints/rtmdet_tiny_8xb32-300e_coco_20220902_112414-78e30dcc.pth'
    ),
    sam2=dict(
        adaptations=[dict(type='SAM2Freezing', parts=['*'], but=['mask_decoder'])]
    ),
)
find_unused_parameters = True

# The frozen detector sees no training image, so SAM 2 gets them in their own size.
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
train_dataloader = dict(
    batch_size=4,
    num_workers=4,
    dataset=dict(pipeline=train_pipeline, filter_cfg=dict(filter_empty_gt=True)),
)

max_epochs = 2
train_cfg = dict(
    _delete_=True, type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=1
)
optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    constructor='SAM2OptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=5e-5, weight_decay=0.1),
    clip_grad=dict(max_norm=0.1, norm_type=2),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=500),
    dict(
        type='CosineAnnealingLR',
        eta_min_ratio=0.1,
        by_epoch=True,
        T_max=max_epochs,
        convert_to_iter_based=True,
    ),
]
default_hooks = dict(
    checkpoint=dict(interval=1, save_best='coco/segm_mAP', rule='greater')
)
auto_scale_lr = dict(enable=False, base_batch_size=32)
