"""DAVIS at 128 px for small models; every third frame of the validation clips."""

data_root = 'data/DAVIS'
clip_size = (128, 128)

train_pipeline = [
    dict(
        type='ClipSampleFrames',
        num_frames=4,
        later_num_frames=((5, 8),),
        max_num_objects=3,
        frame_gaps=(1, 2, 3, 4),
        reverse_probability=0.5,
    ),
    dict(type='ClipLoadFrames'),
    dict(type='ClipLoadMasklets'),
    dict(type='ClipRandomFlip'),
    dict(
        type='ClipRandomAffine',
        degrees=25,
        shear=20,
        scale=(0.8, 1.6),
        translate=0.15,
    ),
    dict(type='ClipResize', size=clip_size),
    dict(
        type='ClipColorJitter',
        brightness=0.3,
        contrast=0.3,
        saturation=0.4,
        consistent=True,
    ),
    dict(type='ClipRandomGrayscale', probability=0.05),
    dict(
        type='ClipColorJitter',
        brightness=0.1,
        contrast=0.05,
        saturation=0.05,
        consistent=False,
    ),
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
        type='RepeatDataset',
        times=8,  # few clips: longer epochs, each repetition another draw
        dataset=dict(
            type='ClipPaletteDataset',
            data_root=data_root,
            file_list='ImageSets/train.txt',
            pipeline=train_pipeline,
        ),
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
        frame_stride=3,
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
