"""A small RTMDet for the generated shapes, from random weights in minutes on a CPU.

Its boxes start the tracks of ``sam2_track_shapes.py``. The data come from
``tools/dataset_converters/make_shapes.py``.
"""

_base_ = [
    'mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py',
    '../_base_/mmdet/custom_imports.py',
]

data_root = 'data/shapes/'
classes = ('disk', 'square', 'triangle', 'star')
side = 128

batch_norm = dict(type='BN')  # one process has no use for SyncBN
model = dict(
    backbone=dict(
        deepen_factor=0.167, widen_factor=0.25, norm_cfg=batch_norm, init_cfg=None
    ),
    neck=dict(
        in_channels=[64, 128, 256],
        out_channels=64,
        num_csp_blocks=1,
        norm_cfg=batch_norm,
    ),
    bbox_head=dict(
        num_classes=len(classes),
        in_channels=64,
        feat_channels=64,
        norm_cfg=batch_norm,
    ),
    test_cfg=dict(nms_pre=1000, score_thr=0.05, max_per_img=50),
)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='RandomFlip', prob=[0.5, 0.25], direction=['horizontal', 'vertical']),
    dict(
        type='RandomResize',
        scale=(side, side),
        ratio_range=(0.7, 1.4),
        keep_ratio=True,
    ),
    dict(type='RandomCrop', crop_size=(side, side)),
    dict(type='YOLOXHSVRandomAug'),
    dict(type='Pad', size=(side, side), pad_val=dict(img=(114, 114, 114))),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(side, side), keep_ratio=True),
    dict(type='Pad', size=(side, side), pad_val=dict(img=(114, 114, 114))),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
    ),
]
shapes = dict(
    type='CocoDataset',
    data_root=data_root,
    metainfo=dict(classes=classes),
    data_prefix=dict(img='images/'),
)
train_dataloader = dict(
    batch_size=16,
    num_workers=1,
    dataset=dict(
        _delete_=True,
        ann_file='instances_train.json',
        filter_cfg=dict(filter_empty_gt=False),
        pipeline=train_pipeline,
        **shapes,
    ),
)
val_dataloader = dict(
    batch_size=16,
    num_workers=1,
    dataset=dict(
        _delete_=True,
        ann_file='instances_val.json',
        test_mode=True,
        pipeline=test_pipeline,
        **shapes,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'instances_val.json')
test_evaluator = val_evaluator

max_iters = 1000
train_cfg = dict(
    _delete_=True, type='IterBasedTrainLoop', max_iters=max_iters, val_interval=500
)
optim_wrapper = dict(optimizer=dict(lr=2e-3))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=100),
    dict(
        type='CosineAnnealingLR',
        eta_min=2e-5,
        begin=max_iters // 3,
        end=max_iters,
        T_max=max_iters - max_iters // 3,
        by_epoch=False,
    ),
]
default_hooks = dict(
    checkpoint=dict(interval=500, by_epoch=False, save_best='coco/bbox_mAP'),
    logger=dict(interval=50),
)
custom_hooks = [
    dict(type='EMAHook', ema_type='ExpMomentumEMA', momentum=2e-3, priority=49)
]
log_processor = dict(by_epoch=False)
auto_scale_lr = dict(enable=False)
