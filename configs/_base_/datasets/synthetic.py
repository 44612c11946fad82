"""Generated clips at 128 px (tools/dataset_converters/make_synthetic_clips.py)."""

_base_ = '../pipelines/clips.py'

data_root = 'data/synthetic'
clip_size = (128, 128)

train_pipeline = [
    dict(
        type='ClipSampleFrames',
        num_frames=4,
        later_num_frames=((16, 8),),
        max_num_objects=3,
        frame_gaps=(1, 2, 3),
        reverse_probability=0.5,
    ),
    *_base_.load_clip,
    dict(type='ClipResize', size=clip_size),
    dict(type='ClipWarp'),
    dict(type='ClipPack'),
]
source = dict(type='ClipPaletteDataset', data_root=data_root)
train_dataloader = dict(
    batch_size=2,
    num_workers=1,
    dataset=dict(file_list='ImageSets/train.txt', pipeline=train_pipeline, **source),
)
val_dataloader = dict(
    num_workers=1,
    dataset=dict(dataset=dict(file_list='ImageSets/val.txt', **source)),
)
test_dataloader = val_dataloader
