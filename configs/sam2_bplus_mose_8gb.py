"""SAM 2.1 base+ fine-tuned on MOSE on one GPU with 8 GB.

The image encoder is frozen. Clips have 4 frames; training and validation run at 512 px.
"""

_base_ = [
    './_base_/models/sam2_1_bplus.py',
    './_base_/datasets/mose.py',
    './_base_/schedules/finetune_8gb.py',
    './_base_/default_runtime.py',
]

image_size = (512, 512)
model = dict(
    data_preprocessor=dict(image_size=image_size),
    adaptations=[dict(type='SAM2Freezing', parts=['image_encoder'])],
)
train_pipeline = [
    dict(type='ClipSampleFrames', num_frames=4, max_num_objects=3),
    *_base_.train_pipeline[1:5],
    dict(type='ClipResize', size=image_size),
    *_base_.train_pipeline[6:],
]
train_dataloader = dict(dataset=dict(dataset=dict(pipeline=train_pipeline)))

load_from = 'checkpoints/sam2.1_hiera_base_plus.pt'
