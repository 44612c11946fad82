"""Generated clips at 128 px (tools/dataset_converters/make_synthetic_clips.py)."""

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
    dict(type='ClipLoadFrames'),
    dict(type='ClipLoadMasklets'),
    dict(type='ClipRandomFlip'),
    dict(type='ClipResize', size=clip_size),
    dict(type='ClipWarp'),
    dict(type='ClipPack'),
]
train_dataloader = dict(
    batch_size=2,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='ClipSampler'),
    batch_sampler=dict(type='ClipBatchSampler'),
    collate_fn=dict(type='pseudo_collate'),
    dataset=dict(
        type='ClipPaletteDataset',
        data_root=data_root,
        file_list='ImageSets/train.txt',
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='ClipVideoSampler'),
    collate_fn=dict(type='pseudo_collate'),
    dataset=dict(
        type='ClipVideoDataset',
        dataset=dict(
            type='ClipPaletteDataset',
            data_root=data_root,
            file_list='ImageSets/val.txt',
        ),
    ),
)
test_dataloader = val_dataloader
val_evaluator = [dict(type='JFMetric')]
test_evaluator = val_evaluator
