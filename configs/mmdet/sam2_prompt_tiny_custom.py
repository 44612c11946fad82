"""Masks with classes of your own: a Mask R-CNN learns to prompt a frozen SAM 2.1 tiny.

Annotations are in COCO's format. Set ``data_root``, ``classes`` and the two files.
"""

_base_ = './sam2_prompt_tiny_coco.py'

data_root = 'data/custom/'
classes = ('cat', 'dog')  # as the annotation file names them; ('cat',) for one class

data = dict(data_root=data_root, metainfo=dict(classes=classes))
train_dataloader = dict(
    dataset=dict(ann_file='train.json', data_prefix=dict(img='images/'), **data)
)
val_dataloader = dict(
    dataset=dict(ann_file='val.json', data_prefix=dict(img='images/'), **data)
)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=f'{data_root}val.json')
test_evaluator = val_evaluator

model = dict(roi_head=dict(bbox_head=dict(num_classes=len(classes))))

train_cfg = dict(max_epochs=36, val_interval=3)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=100),
    dict(type='MultiStepLR', milestones=[27, 33], gamma=0.1),
]
