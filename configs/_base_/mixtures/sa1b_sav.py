"""SA-1B and SA-V in batches of images or videos; validates on SA-V.

``data_root`` contains ``SA-1B`` and ``sav``. The proportion is that of SAM 2's
training, see ``sam2_bplus_sa1b_sav.py``.
"""

_base_ = '../datasets/sav.py'

data_root = 'data'
image_pipeline = [
    dict(type='ClipSampleFrames', num_frames=1, max_num_objects=32),
    *_base_.load_clip,
    dict(type='ClipResize', size=_base_.clip_size),
    dict(type='ClipWarp'),
    dict(type='ClipPack'),
]
video_pipeline = [
    dict(
        type='ClipSampleFrames',
        num_frames=8,
        max_num_objects=3,
        reverse_probability=0.5,
    ),
    *_base_.train_pipeline[1:-1],  # without sampling and packing
    dict(type='ClipMosaic', probability=0.1),
    dict(type='ClipPack'),
]
train_dataloader = dict(
    batch_sampler=dict(
        type='ClipMixBatchSampler',
        batch_sizes=(8, 1),
        repeats=(1, 127),
        num_phases=30,
    ),
    dataset=dict(
        _delete_=True,
        type='ConcatDataset',
        datasets=[
            dict(
                type='ClipSA1BDataset',
                data_root=data_root,
                image_folder='SA-1B',
                max_area_share=0.9,  # larger masks are background
                pipeline=image_pipeline,
            ),
            dict(
                type='ClipSAVDataset',
                data_root=data_root,
                frame_folder='sav/sav_train',
                annotation_folder='sav/sav_train',
                kinds=('manual',),
                pipeline=video_pipeline,
            ),
        ],
    ),
)
val_dataloader = dict(
    dataset=dict(
        dataset=dict(
            data_root=data_root,
            frame_folder='sav/sav_val/JPEGImages_24fps',
            mask_folder='sav/sav_val/Annotations_6fps',
            file_list='sav/sav_val/sav_val.txt',
        ),
    ),
)
test_dataloader = val_dataloader
