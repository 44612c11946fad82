"""MOSE: trains on its training set, repeated twice, without 200 validation clips.

The masks of MOSE's own validation set are not public. The split lists are written by
``tools/dataset_converters/split_clips.py <data_root>``.
"""

_base_ = '../pipelines/clips.py'

data_root = 'data/MOSE/train'
train_dataloader = dict(
    dataset=dict(
        type='RepeatDataset',
        times=2,
        dataset=dict(
            type='ClipPaletteDataset',
            data_root=data_root,
            file_list='ImageSets/train_without_holdout.txt',
            pipeline={{_base_.train_pipeline}},
            max_bad_share=0.01,
        ),
    ),
)
val_dataloader = dict(
    dataset=dict(
        dataset=dict(
            type='ClipPaletteDataset',
            data_root=data_root,
            file_list='ImageSets/holdout.txt',
        ),
    ),
)
test_dataloader = val_dataloader
