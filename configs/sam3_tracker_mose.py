"""SAM 3's tracker fine-tuned on MOSE by SAM 2.1's recipe; the backbone is frozen.

SAM 3's detector reads the same backbone. Frozen, the trained tracker still fits the
detector, and a step takes a fraction of the memory.
"""

_base_ = [
    './_base_/models/sam3_tracker.py',
    './_base_/datasets/mose.py',
    './_base_/schedules/finetune_40e.py',
    './_base_/default_runtime.py',
]

image_size = (1008, 1008)
train_pipeline = [
    *_base_.train_pipeline[:5],
    dict(type='ClipResize', size=image_size),
    *_base_.train_pipeline[6:],
]
train_dataloader = dict(dataset=dict(dataset=dict(pipeline=train_pipeline)))

model = dict(adaptations=[dict(type='SAM2Freezing', parts=['image_encoder.backbone'])])

load_from = 'checkpoints/sam3'  # the folder of facebook/sam3, or its sam3.pt
