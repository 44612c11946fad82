"""Detect and track the generated shapes: an RTMDet every four frames, SAM 2 on all.

The parts are trained first, by ``sam2_track_shapes_detector.py`` and
``sam2_track_shapes_sam2.py``; the checkpoint to test is the detector's.
"""

_base_ = '../_base_/mmdet/track_videos.py'

data_root = 'data/shapes/'
classes = ('disk', 'square', 'triangle', 'star')
model = dict(
    detector='configs/mmdet/sam2_track_shapes_detector.py',
    sam2='configs/mmdet/sam2_track_shapes_sam2.py',
    sam2_checkpoint='work_dirs/sam2_track_shapes_sam2/epoch_6.pth',
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
