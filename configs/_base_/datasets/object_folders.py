"""Your own videos with a mask folder for each object; objects may overlap."""

_base_ = '../pipelines/clips.py'

data_root = 'data/videos'
source = dict(
    type='ClipObjectFolderDataset',
    data_root=data_root,
    frame_folder='JPEGImages',
    mask_folder='Annotations',
)
train_dataloader = dict(
    dataset=dict(file_list='train.txt', pipeline={{_base_.train_pipeline}}, **source)
)
val_dataloader = dict(dataset=dict(dataset=dict(file_list='val.txt', **source)))
test_dataloader = val_dataloader
