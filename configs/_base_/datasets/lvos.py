"""LVOS v2: long clips with objects that appear late or return."""

_base_ = '../pipelines/clips.py'

data_root = 'data/LVOS'
source = dict(type='ClipPaletteDataset', data_root=data_root)
train_dataloader = dict(
    dataset=dict(
        frame_folder='train/JPEGImages',
        mask_folder='train/Annotations',
        pipeline={{_base_.train_pipeline}},
        **source,
    ),
)
val_dataloader = dict(
    dataset=dict(
        dataset=dict(
            frame_folder='valid/JPEGImages', mask_folder='valid/Annotations', **source
        ),
    ),
)
test_dataloader = val_dataloader
