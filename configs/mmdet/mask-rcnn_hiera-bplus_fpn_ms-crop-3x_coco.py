"""Mask R-CNN with SAM 2.1's Hiera base-plus on COCO."""

_base_ = './mask-rcnn_hiera-t_fpn_ms-crop-3x_coco.py'

model = dict(
    backbone=dict(
        arch='bplus',
        drop_path_rate=0.3,
        with_cp=True,
        init_cfg=dict(checkpoint='checkpoints/sam2.1_hiera_base_plus.pt'),
    ),
    neck=dict(in_channels=[112, 224, 448, 896]),
)
