"""Remote sensing, NWPU VHR-10: a Mask R-CNN learns to prompt a frozen SAM 2.1 tiny.

The instance annotations in COCO's format are those of RSPrompter (Chen et al., 2023).
"""

_base_ = './sam2_prompt_tiny_coco.py'

data_root = 'data/NWPU/'
classes = (
    'airplane',
    'ship',
    'storage_tank',
    'baseball_diamond',
    'tennis_court',
    'basketball_court',
    'ground_track_field',
    'harbor',
    'bridge',
    'vehicle',
)

data = dict(
    data_root=data_root,
    metainfo=dict(classes=classes),
    data_prefix=dict(img='positive image set/'),
)
train_dataloader = dict(
    dataset=dict(ann_file='annotations/NWPU_instances_train.json', **data)
)
val_dataloader = dict(
    dataset=dict(ann_file='annotations/NWPU_instances_val.json', **data)
)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=f'{data_root}annotations/NWPU_instances_val.json')
test_evaluator = val_evaluator

model = dict(roi_head=dict(bbox_head=dict(num_classes=len(classes))))

train_cfg = dict(max_epochs=100, val_interval=5)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=100),
    dict(type='MultiStepLR', milestones=[75, 92], gamma=0.1),
]
