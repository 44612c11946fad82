"""Images at 128 px for small models, as clips of one frame."""

_base_ = './images.py'

clip_size = (128, 128)

train_pipeline = [
    dict(type='ClipSampleFrames', num_frames=1, max_num_objects=8),
    *_base_.load_clip,
    dict(type='ClipResize', size=clip_size),
    dict(type='ClipWarp'),
    dict(type='ClipPack'),
]
train_dataloader = dict(num_workers=2)
val_dataloader = dict(num_workers=1)
test_dataloader = val_dataloader
