"""SAM 2.1 tiny on the ground truth's boxes: the best masks that a detector could get.

``--cfg-options model.oracle=masks`` scores the ground truth itself, a check of data and
metric.
"""

_base_ = [
    'mmdet::_base_/datasets/coco_instance.py',
    'mmdet::_base_/default_runtime.py',
    '../_base_/mmdet/custom_imports.py',
]

model = dict(
    type='SAM2MaskDetector',
    detector=None,
    oracle='boxes',
    sam2=dict(config='sam2.1_hiera_tiny'),
    sam2_checkpoint='checkpoints/sam2.1_hiera_tiny.pt',
)
# Without a detector nothing is resized; SAM 2 reads the image at its own size.
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape'),
    ),
]
train_dataloader = None
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
