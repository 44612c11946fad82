"""Your own images with a label PNG each; connected regions of a class are objects."""

_base_ = '../pipelines/images.py'

data_root = 'data/images'
source = dict(
    type='ClipLabelImageDataset',
    data_root=data_root,
    rule=dict(regions=True, min_pixels=64),
)
train_dataloader = dict(
    dataset=dict(file_list='train.txt', pipeline={{_base_.train_pipeline}}, **source)
)
val_dataloader = dict(dataset=dict(dataset=dict(file_list='val.txt', **source)))
test_dataloader = val_dataloader
