"""YouTube-VOS 2019: sparse masks; validates on 200 of the training clips.

The masks of its own validation set are not public. The split lists are written by
``tools/dataset_converters/split_clips.py <data_root>``.
"""

_base_ = './mose.py'

data_root = 'data/YouTubeVOS/train'
train_dataloader = dict(dataset=dict(times=1, dataset=dict(data_root=data_root)))
val_dataloader = dict(dataset=dict(dataset=dict(data_root=data_root)))
test_dataloader = val_dataloader
