"""LVOS v2: long clips, some objects of which come late or return."""

_base_ = './davis.py'

data_root = 'data/LVOS'
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='ClipPaletteDataset',
        data_root=data_root,
        frame_folder='train/JPEGImages',
        mask_folder='train/Annotations',
        pipeline={{_base_.train_pipeline}},
    ),
)
val_dataloader = dict(
    dataset=dict(
        dataset=dict(
            _delete_=True,
            type='ClipPaletteDataset',
            data_root=data_root,
            frame_folder='valid/JPEGImages',
            mask_folder='valid/Annotations',
        ),
    ),
)
test_dataloader = val_dataloader
