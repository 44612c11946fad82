"""Configs of mmdet and mmseg mean the same with our import as without it."""

import pytest

from stock_configs import compare

NAMES = (
    'mmdet/retinanet/retinanet_r18_fpn_1x_coco.py',
    'mmseg/pspnet/pspnet_r18-d8_4xb2-80k_cityscapes-512x1024.py',
)


def test_stock_configs_get_the_same_weights_with_our_import() -> None:
    for package in ('mmdet', 'mmseg'):
        pytest.importorskip(f'{package}.version')
    for without, with_us in compare(NAMES):
        assert with_us == without
        # Their backbones got what the addresses of MMEngine's tables gave.
        assert with_us['fetched']
        assert with_us['changed'] > 100
