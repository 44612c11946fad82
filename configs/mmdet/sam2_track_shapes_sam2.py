"""The small SAM 2.1 of the quickstart on the generated shapes, for a detector's boxes.

It goes on from ``docs/weights/sam2_mini.pth``, which knows boxes of cells: the weights
of the quickstart alone know masks only. Single frames teach boxes of shapes, clips to
track what was in a box; objects that leave and return are among them.
"""

_base_ = '../sam2_mini_synthetic.py'

data_root = 'data/shapes'
folders = dict(frame_folder='images', mask_folder='objects')
source = dict(
    type='ClipPaletteDataset',
    data_root=data_root,
    file_list='ImageSets/train.txt',
    **folders,
)
to_model = [
    *_base_.load_clip,
    dict(type='ClipRandomAffine', degrees=30, scale=(0.8, 1.3), translate=0.1),
    dict(type='ClipResize', size=_base_.clip_size),
    dict(type='ClipWarp'),
    dict(type='ClipPack'),
]
images = dict(
    pipeline=[
        dict(type='ClipSampleFrames', num_frames=1, max_num_objects=4),
        *to_model,
    ],
    **source,
)
clips = dict(
    pipeline=[
        dict(
            type='ClipSampleFrames',
            num_frames=6,
            max_num_objects=3,
            frame_gaps=(1, 2, 3),
            reverse_probability=0.5,
        ),
        *to_model,
    ],
    **source,
)
train_dataloader = dict(
    batch_sampler=dict(
        type='ClipMixBatchSampler', batch_sizes=(8, 2), repeats=(2.0, 1.0)
    ),
    dataset=dict(_delete_=True, type='ConcatDataset', datasets=[images, clips]),
)
val_dataloader = dict(dataset=dict(dataset=dict(data_root=data_root, **folders)))
test_dataloader = val_dataloader
model = dict(
    prompt_simulator=dict(
        point_probability=0.7,
        box_probability=1.0,
        num_corrections=0,
    ),
    val_prompt_simulator=dict(point_probability=1.0, box_probability=1.0),
)
optim_wrapper = dict(optimizer=dict(lr=4e-4))
train_cfg = dict(max_epochs=6, val_interval=3)
load_from = 'docs/weights/sam2_mini.pth'
