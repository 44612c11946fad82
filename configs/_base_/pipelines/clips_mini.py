"""Clips at 128 px for small models; strong augmentation, since real clips are few."""

_base_ = './clips.py'

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
    *_base_.load_clip,
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
    *_base_.vary_frames,
    dict(type='ClipWarp'),
    dict(type='ClipPack'),
]
# Of few real clips alone a small model does not learn to track.
generated_clips = dict(
    type='ClipSyntheticDataset', num_frames=12, pipeline=train_pipeline
)
train_dataloader = dict(batch_size=2, num_workers=1)
val_dataloader = dict(num_workers=1)
test_dataloader = val_dataloader
