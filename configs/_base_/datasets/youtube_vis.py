"""YouTube-VIS 2021: its training set; validates on the clips in holdout.txt."""

_base_ = '../pipelines/clips.py'

data_root = 'data/YouTubeVIS/train'
source = dict(
    type='ClipYouTubeVISDataset',
    data_root=data_root,
    annotation_file='instances.json',
)
train_dataloader = dict(
    dataset=dict(
        exclude_list='holdout.txt', pipeline={{_base_.train_pipeline}}, **source
    )
)
val_dataloader = dict(dataset=dict(dataset=dict(file_list='holdout.txt', **source)))
test_dataloader = val_dataloader
