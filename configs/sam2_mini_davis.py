"""A small SAM 2.1 from random weights on few real clips, mixed with generated ones.

A few dozen real clips are too little to learn tracking. The generated clips, rendered
on demand, keep the model from overfitting to them.
"""

_base_ = [
    './_base_/models/sam2_1_mini.py',
    './_base_/datasets/davis_mini.py',
    './_base_/schedules/mini.py',
    './_base_/default_runtime.py',
]

train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='ConcatDataset',
        datasets=[
            dict(
                type='RepeatDataset',
                times=16,
                dataset=dict(
                    type='ClipPaletteDataset',
                    data_root={{_base_.data_root}},
                    file_list='ImageSets/train.txt',
                    pipeline={{_base_.train_pipeline}},
                ),
            ),
            dict(num_clips=432, **_base_.generated_clips),
        ],
    ),
)
train_cfg = dict(max_epochs=18, val_interval=1)
default_hooks = dict(checkpoint=dict(max_keep_ckpts=4))
custom_hooks = [dict(type='EMAHook', momentum=0.01)]
