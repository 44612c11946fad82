"""MOSEv2: trains on its training set without 200 validation clips.

The masks of its validation set are not public, except those of the first frames. The
split lists are written by ``tools/dataset_converters/split_clips.py <data_root>``.
Clips are sampled as in the fine-tuning that MOSEv2's authors published: one object, and
every frame, every second or every third.
"""

_base_ = '../pipelines/clips.py'

data_root = 'data/MOSEv2/train'
train_pipeline = [
    dict(
        type='ClipSampleFrames', num_frames=8, max_num_objects=1, frame_gaps=(1, 2, 3)
    ),
    *_base_.train_pipeline[1:],
]
source = dict(type='ClipPaletteDataset', data_root=data_root)
train_dataloader = dict(
    dataset=dict(
        file_list='ImageSets/train_without_holdout.txt',
        pipeline=train_pipeline,
        max_bad_share=0.01,
        **source,
    ),
)
val_dataloader = dict(
    dataset=dict(dataset=dict(file_list='ImageSets/holdout.txt', **source))
)
test_dataloader = val_dataloader
