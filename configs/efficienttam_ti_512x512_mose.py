"""EfficientTAM-Ti fine-tuned on MOSE at 512 pixels by SAM 2.1's recipe."""

_base_ = [
    './_base_/models/efficienttam_ti_512x512.py',
    './_base_/datasets/mose.py',
    './_base_/schedules/finetune_40e.py',
    './_base_/default_runtime.py',
]

image_size = (512, 512)
train_pipeline = [
    *_base_.train_pipeline[:5],
    dict(type='ClipResize', size=image_size),
    *_base_.train_pipeline[6:],
]
train_dataloader = dict(dataset=dict(dataset=dict(pipeline=train_pipeline)))

load_from = 'checkpoints/efficienttam_ti_512x512.pt'
