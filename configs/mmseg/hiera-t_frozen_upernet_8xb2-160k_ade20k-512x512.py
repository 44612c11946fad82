"""UPerNet on ADE20K, trained on the maps of a frozen Hiera tiny."""

_base_ = './hiera-t_upernet_8xb2-160k_ade20k-512x512.py'

model = dict(backbone=dict(frozen_stages=4))
# Nothing of the backbone is trained, so that there is no layer to decay for.
optim_wrapper = dict(paramwise_cfg=dict(layer_decay=1.0))
