"""Mask R-CNN on COCO, trained on the maps of a frozen Hiera tiny."""

_base_ = './mask-rcnn_hiera-t_fpn_ms-crop-3x_coco.py'

model = dict(backbone=dict(frozen_stages=4))
# Nothing of the backbone is trained, so that there is no layer to decay for.
optim_wrapper = dict(paramwise_cfg=dict(layer_decay=1.0))
