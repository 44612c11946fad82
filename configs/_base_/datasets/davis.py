"""DAVIS 2017 at 480p, as it is unpacked, at 1024 px."""

data_root = 'data/DAVIS'
clip_size = (1024, 1024)

# The published recipe of fine-tuning on MOSE; frames are normalised on the device.
train_pipeline = [
    dict(type='ClipSampleFrames', num_frames=8, max_num_objects=3),
    dict(type='ClipLoadFrames'),
    dict(type='ClipLoadMasklets'),
    dict(type='ClipRandomFlip'),
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
        type='ClipPaletteDataset',
        data_root=data_root,
        frame_folder='JPEGImages/480p',
        mask_folder='Annotations/480p',
        file_list='ImageSets/2017/train.txt',
        pipeline=train_pipeline,
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
            frame_folder='JPEGImages/480p',
            mask_folder='Annotations/480p',
            file_list='ImageSets/2017/val.txt',
        ),
    ),
)
test_dataloader = val_dataloader
val_evaluator = [dict(type='JFMetric')]
test_evaluator = val_evaluator
