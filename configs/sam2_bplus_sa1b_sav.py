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
"""

_base_ = [
    './_base_/models/sam2_1_bplus.py',
    './_base_/mixtures/sa1b_sav.py',
    './_base_/schedules/finetune_40e.py',
    './_base_/default_runtime.py',
]

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
