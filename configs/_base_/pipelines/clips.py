"""Augmentation of the published MOSE fine-tuning at 1024 px, and the data loaders.

The configs of the datasets add their sources. Those with a pipeline of their own reuse
``load_clip`` and ``vary_frames``.
"""

clip_size = (1024, 1024)

load_clip = [
    dict(type='ClipLoadFrames'),
    dict(type='ClipLoadMasklets'),
    dict(type='ClipRandomFlip'),
]
vary_frames = [
    dict(type='ClipRandomGrayscale', probability=0.05),
    dict(
        type='ClipColorJitter',
        brightness=0.1,
        contrast=0.05,
        saturation=0.05,
        consistent=False,
    ),
]
# Frames are normalised on the device.
train_pipeline = [
    dict(type='ClipSampleFrames', num_frames=8, max_num_objects=3),
    *load_clip,
    dict(type='ClipRandomAffine', degrees=25, shear=20),
    dict(type='ClipResize', size=clip_size),
    dict(
        type='ClipColorJitter',
        brightness=0.1,
        contrast=0.03,
        saturation=0.03,
        consistent=True,
    ),
    *vary_frames,
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
)
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='ClipVideoSampler'),
    collate_fn=dict(type='pseudo_collate'),
    dataset=dict(type='ClipVideoDataset'),
)
test_dataloader = val_dataloader
val_evaluator = [dict(type='JFMetric')]
test_evaluator = val_evaluator
