"""Learned prompts for a small SAM 2.1 on generated shapes: a trial on a CPU.

Data: ``python tools/dataset_converters/make_shapes.py data/shapes --num-clips 100
--num-frames 12``. The small SAM 2 has seen cells only, so that most of it is trained.
"""

_base_ = [
    '../_base_/mmdet/sam2_prompt_mini.py',
    '../_base_/mmdet/sam2_prompt_run.py',
]

data_root = 'data/shapes'
metainfo = dict(classes=('disk', 'square', 'triangle', 'star'))

extractor = dict(out_channels=64)
model = dict(
    backbone=dict(
        adaptations=[dict(type='SAM2Freezing', parts=['tracker', 'prompt_encoder'])],
    ),
    neck=dict(in_channels=[16, 32, 64, 128], out_channels=64),
    rpn_head=dict(in_channels=64, feat_channels=64, anchor_generator=dict(scales=[4])),
    roi_head=dict(
        masks_per_image=8,
        bbox_roi_extractor=extractor,
        bbox_head=dict(in_channels=64, fc_out_channels=256, num_classes=4),
        mask_roi_extractor=extractor,
        mask_head=dict(in_channels=64, hidden_channels=64, prompt_dims=64),
    ),
    train_cfg=dict(
        rpn_proposal=dict(nms_pre=300, max_per_img=100),
        rcnn=dict(sampler=dict(num=64)),
    ),
    test_cfg=dict(rpn=dict(nms_pre=300, max_per_img=100)),
)

resize = dict(type='Resize', scale=(128, 128), keep_ratio=False)
train_pipeline = list(_base_.train_pipeline)
test_pipeline = list(_base_.test_pipeline)
train_pipeline[2] = test_pipeline[1] = resize
data = dict(data_root=data_root, metainfo=metainfo, data_prefix=dict(img='images'))
train_dataloader = dict(
    batch_size=4,
    dataset=dict(ann_file='instances_train.json', pipeline=train_pipeline, **data),
)
val_dataloader = dict(
    batch_size=8,
    dataset=dict(ann_file='instances_val.json', pipeline=test_pipeline, **data),
)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=f'{data_root}/instances_val.json')
test_evaluator = val_evaluator

train_cfg = dict(max_epochs=3, val_interval=3)
optim_wrapper = dict(optimizer=dict(lr=8e-4))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=100),
    dict(
        type='CosineAnnealingLR',
        by_epoch=False,
        begin=100,
        end=900,
        T_max=800,
        eta_min=1e-6,
    ),
]
# The decoder's tokens of several masks are not used.
find_unused_parameters = True
