"""EdgeTAM, stage 4: as stage 3, with 32 frames."""

_base_ = './edgetam_sav_16_frames.py'

train_pipeline = [
    dict(type='ClipSampleFrames', num_frames=32, max_num_objects=3),
    *_base_.train_pipeline[1:],
]
train_dataloader = dict(dataset=dict(dataset=dict(pipeline=train_pipeline)))
load_from = 'work_dirs/edgetam_sav_16_frames/epoch_43.pth'
