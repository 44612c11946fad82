"""SAM 2.1 base+ on images and videos: SA-1B and SA-V, after the paper's full training.

From the paper (appendix D.2.2):

- 15.2% SA-1B and 70% SA-V. The other 14.8% were not released; the proportion of these
  two is kept.
- Each batch holds images or videos only: images with up to 32 objects, prompted by
  points, or clips of 8 frames with up to 3 objects.
- Only SA-V's manual masklets, and no masks that cover over 90% of an image.
- The augmentation, learning rates and warm-up.

Choices of this project:

- Proportions are counted in batches, of 8 images or 1 clip per process.
- All of SA-1B is used; the paper does not say which tenth it uses.
- SA-V is shown 127 times while SA-1B is shown once. An epoch is a thirtieth of that,
  about a thousand steps on 256 GPUs; the run has 150 epochs.
- Training starts from the released weights in place of a pre-training on SA-1B, and the
  learning rates decay to a tenth.

``data_root`` contains ``SA-1B`` and ``sav``.
"""

_base_ = [
    './_base_/models/sam2_1_bplus.py',
    './_base_/datasets/sav.py',
    './_base_/schedules/finetune_40e.py',
    './_base_/default_runtime.py',
]

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

# The image encoder learns at 6e-5.
optim_wrapper = dict(
    optimizer=dict(lr=3e-4),
    paramwise_cfg=dict(backbone_lr_mult=0.2, layer_decay=0.8),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=15000),
    dict(
        type='CosineAnnealingLR',
        eta_min_ratio=0.1,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(max_epochs=150, val_interval=10)
# For `train.py --auto-scale-lr`: 256 GPUs with a clip each.
auto_scale_lr = dict(base_batch_size=256)

load_from = 'checkpoints/sam2.1_hiera_base_plus.pt'
