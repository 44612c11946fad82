"""A map of classes by a frozen small SAM 2.1 on generated shapes: a trial on a CPU.

python tools/dataset_converters/make_shapes.py data/shapes --num-clips 100
"""

_base_ = '../_base_/mmseg/sam2_semantic.py'

data_root = 'data/shapes'
classes = ('background', 'disk', 'square', 'triangle', 'star')

pretrained = dict(type='Pretrained', checkpoint='docs/weights/sam2_mini.pth')
model = dict(
    data_preprocessor=dict(size=(128, 128)),
    backbone=dict(arch='mini', init_cfg=pretrained),
    neck=dict(in_channels=(16, 32, 64, 128), out_channels=64, init_cfg=pretrained),
    decode_head=dict(
        num_classes=len(classes),
        embed_dims=64,
        mask_decoder=dict(mlp_dims=128),
        init_cfg=pretrained,
    ),
)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
data = dict(
    type='BaseSegDataset',
    data_root=data_root,
    metainfo=dict(classes=classes),
    data_prefix=dict(img_path='images', seg_map_path='labels'),
)
train_dataloader = dict(
    batch_size=8,
    num_workers=2,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(ann_file='frames_train.txt', pipeline=train_pipeline, **data),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=1,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(ann_file='frames_val.txt', pipeline=test_pipeline, **data),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator

train_cfg = dict(max_iters=1200, val_interval=600)
optim_wrapper = dict(optimizer=dict(lr=5e-4))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=100),
    dict(type='PolyLR', power=0.9, by_epoch=False, begin=100, end=1200, eta_min=1e-6),
]
default_hooks = dict(checkpoint=dict(interval=600))
