"""The model of notebooks and tutorials: a small SAM 2.1 for clicks, boxes and masks.

``sam2_mini.pth`` (2 MB, float16) goes on from the model of the quickstart, which knows
masks only, on 160 generated clips of cells (``docs/notebooks/cells.py``): first single
frames alone, then this config. Eight frames cost less than a clip, and clicks are
learnt there. On held-out frames a box gives masks of an IoU of 0.88; a single click
often chooses the wrong one of its three masks. It tracks cells that do not touch. It is
for examples only.
"""

_base_ = '../../configs/sam2_mini_synthetic.py'

data_root = 'data/cells'
clip_size = _base_.clip_size
source = dict(
    type='ClipPaletteDataset', data_root=data_root, file_list='ImageSets/train.txt'
)
to_model = [
    *_base_.load_clip,
    dict(type='ClipRandomAffine', degrees=180, scale=(0.8, 1.5), translate=0.1),
    dict(type='ClipResize', size=clip_size),
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
            num_frames=5,
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
        type='ClipMixBatchSampler', batch_sizes=(8, 2), repeats=(4.0, 1.0)
    ),
    dataset=dict(_delete_=True, type='ConcatDataset', datasets=[images, clips]),
)
val_dataloader = dict(dataset=dict(dataset=dict(data_root=data_root)))
test_dataloader = val_dataloader
model = dict(
    prompt_simulator=dict(
        point_probability=0.6, num_corrections=2, num_correction_frames=(1, 2)
    )
)
train_cfg = dict(max_epochs=8, val_interval=4)
load_from = 'work_dirs/quickstart/best_JF.pth'
