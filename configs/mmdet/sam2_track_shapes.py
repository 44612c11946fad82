"""Detect and track the generated shapes: an RTMDet every four frames, SAM 2 on all.

The parts are trained first, by ``sam2_track_shapes_detector.py`` and
``sam2_track_shapes_sam2.py``.
"""

_base_ = '../_base_/mmdet/track_videos.py'

data_root = 'data/shapes/'
classes = ('disk', 'square', 'triangle', 'star')
model = dict(
    detector='configs/mmdet/sam2_track_shapes_detector.py',
    detector_checkpoint='work_dirs/sam2_track_shapes_detector/iter_1500.pth',
    sam2='configs/mmdet/sam2_track_shapes_sam2.py',
    sam2_checkpoint='work_dirs/sam2_track_shapes_sam2/best_JF.pth',
    classes=classes,
)
test_dataloader = dict(
    dataset=dict(
        type='BaseVideoDataset',
        data_root=data_root,
        ann_file='instances_val.json',
        data_prefix=dict(img_path='images'),
        metainfo=dict(classes=classes),
    )
)
val_dataloader = test_dataloader
