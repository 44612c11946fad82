"""Registers the parts for mmsegmentation, and mmcv's operators where it has none."""

custom_imports = dict(
    imports=['projects.sam2.bridges.mmseg'], allow_failed_imports=False
)
