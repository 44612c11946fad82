"""Your own images, annotated with LabelMe."""

_base_ = '../pipelines/images.py'

data_root = 'data/labelme'
source = dict(type='ClipLabelMeDataset', data_root=data_root)
train_dataloader = dict(
    dataset=dict(file_list='train.txt', pipeline={{_base_.train_pipeline}}, **source)
)
val_dataloader = dict(dataset=dict(dataset=dict(file_list='val.txt', **source)))
test_dataloader = val_dataloader
