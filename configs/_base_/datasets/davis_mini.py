"""DAVIS at 128 px for small models; validates on every third frame."""

_base_ = '../pipelines/clips_mini.py'

data_root = 'data/DAVIS'
train_dataloader = dict(
    dataset=dict(
        type='RepeatDataset',
        times=8,  # longer epochs of few clips; each repetition is augmented differently
        dataset=dict(
            type='ClipPaletteDataset',
            data_root=data_root,
            file_list='ImageSets/train.txt',
            pipeline={{_base_.train_pipeline}},
        ),
    ),
)
val_dataloader = dict(
    dataset=dict(
        frame_stride=3,
        dataset=dict(
            type='ClipPaletteDataset',
            data_root=data_root,
            file_list='ImageSets/val.txt',
        ),
    ),
)
test_dataloader = val_dataloader
