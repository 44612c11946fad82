"""YouTube-VOS 2019: sparse masks; 200 training clips validate.

The masks of the validation set are not public. The two lists are written by
``tools/dataset_converters/split_clips.py <data_root>``.
"""

_base_ = './mose.py'

data_root = 'data/YouTubeVOS/train'
train_dataloader = dict(dataset=dict(times=1, dataset=dict(data_root=data_root)))
val_dataloader = dict(dataset=dict(dataset=dict(data_root=data_root)))
test_dataloader = val_dataloader
