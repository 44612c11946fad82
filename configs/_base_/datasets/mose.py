"""MOSE: its training set, doubled, without 200 clips that validate.

The masks of MOSE's validation set are not public. The two lists are written by
``tools/dataset_converters/split_clips.py <data_root>``.
"""

data_root = 'data/MOSE/train'
clip_size = (1024, 1024)

# The published recipe of fine-tuning on MOSE; frames are normalised on the device.
train_pipeline = [
    dict(type='ClipSampleFrames', num_frames=8, max_num_objects=3),
    dict(type='ClipLoadFrames'),
    dict(type='ClipLoadMasklets'),
    dict(type='ClipRandomFlip', probability=0.5),
    dict(type='ClipRandomAffine', degrees=25, shear=20),
    dict(type='ClipResize', size=clip_size),
    dict(
        type='ClipColorJitter',
        brightness=0.1,
        contrast=0.03,
        saturation=0.03,
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
    batch_size=1,
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type='ClipSampler'),
    batch_sampler=dict(type='ClipBatchSampler'),
    collate_fn=dict(type='pseudo_collate'),
    dataset=dict(
        type='RepeatDataset',
        times=2,
        dataset=dict(
            type='ClipPaletteDataset',
            data_root=data_root,
            file_list='ImageSets/train_without_holdout.txt',
            pipeline=train_pipeline,
            max_bad_share=0.01,
        ),
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='ClipVideoSampler'),
    collate_fn=dict(type='pseudo_collate'),
    dataset=dict(
        type='ClipVideoDataset',
        dataset=dict(
            type='ClipPaletteDataset',
            data_root=data_root,
            file_list='ImageSets/holdout.txt',
        ),
    ),
)
test_dataloader = val_dataloader
val_evaluator = [dict(type='JFMetric')]
test_evaluator = val_evaluator
