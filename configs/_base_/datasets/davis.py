"""DAVIS 2017, the 480p files in their original layout, resized to 1024 px."""

_base_ = '../pipelines/clips.py'

data_root = 'data/DAVIS'
source = dict(
    type='ClipPaletteDataset',
    data_root=data_root,
    frame_folder='JPEGImages/480p',
    mask_folder='Annotations/480p',
)
train_dataloader = dict(
    dataset=dict(
        file_list='ImageSets/2017/train.txt',
        pipeline={{_base_.train_pipeline}},
        **source,
    )
)
val_dataloader = dict(
    dataset=dict(dataset=dict(file_list='ImageSets/2017/val.txt', **source))
)
test_dataloader = val_dataloader
