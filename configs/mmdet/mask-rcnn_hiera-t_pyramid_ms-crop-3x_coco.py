"""Mask R-CNN on COCO with the image encoder of SAM 2.1 tiny: Hiera and its FPN."""

_base_ = './mask-rcnn_hiera-t_fpn_ms-crop-3x_coco.py'

model = dict(
    neck=dict(
        _delete_=True,
        type='HieraPyramid',
        in_channels=[96, 192, 384, 768],
        num_outs=5,
        init_cfg=dict(type='Pretrained', checkpoint='checkpoints/sam2.1_hiera_tiny.pt'),
    )
)
