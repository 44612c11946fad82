"""Registers the parts for mmdetection, and mmcv's operators where it has none."""

custom_imports = dict(
    imports=['projects.sam2.bridges.mmdet'], allow_failed_imports=False
)
