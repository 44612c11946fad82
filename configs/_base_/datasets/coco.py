"""COCO 2017: each image with its instances is a clip of one frame."""

_base_ = '../pipelines/images.py'

data_root = 'data/coco'
train_dataloader = dict(
    dataset=dict(
        type='ClipCocoDataset',
        data_root=data_root,
        annotation_file='annotations/instances_train2017.json',
        image_folder='train2017',
        pipeline={{_base_.train_pipeline}},
    ),
)
val_dataloader = dict(
    dataset=dict(
        dataset=dict(
            type='ClipCocoDataset',
            data_root=data_root,
            annotation_file='annotations/instances_val2017.json',
            image_folder='val2017',
        ),
    ),
)
test_dataloader = val_dataloader
