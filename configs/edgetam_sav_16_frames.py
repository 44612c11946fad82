"""EdgeTAM, stage 3: 16 frames, with a frozen image encoder and without a teacher.

Second-hand (see ``_base_/distillation/edgetam.py``): about 43,000 steps. Not known and
chosen here: that learning rate and warm-up are those of stage 2, that images are left
out, and a clip for each process.
"""

_base_ = [
    './_base_/models/edgetam.py',
    './_base_/datasets/sav.py',
    './_base_/schedules/edgetam.py',
    './_base_/default_runtime.py',
]

model = dict(adaptations=[dict(type='SAM2Freezing', parts=['image_encoder'])])
train_pipeline = [
    dict(type='ClipSampleFrames', num_frames=16, max_num_objects=3),
    *_base_.train_pipeline[1:],
]
# An epoch shows each manually annotated video five times: a thousand steps of 256.
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='RepeatDataset',
        times=5,
        dataset=dict(
            type='ClipSAVDataset',
            data_root=_base_.data_root,
            frame_folder='sav_train',
            annotation_folder='sav_train',
            kinds=('manual',),
            pipeline=train_pipeline,
        ),
    ),
)
train_cfg = dict(max_epochs=43, val_interval=5)

load_from = 'work_dirs/edgetam_sav_distill/epoch_130.pth'
