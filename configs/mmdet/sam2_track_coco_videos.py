"""Detect and track on own videos, annotated like COCO: each frame is an image.

``images`` have ``video_id`` and ``frame_id`` (from 0), ``annotations`` have
``instance_id`` (from 1) and ``segmentation``. Set data_root, classes and the detector::

    python tools/test.py configs/mmdet/sam2_track_coco_videos.py my_detector.pth

The checkpoint is that of the detector.
"""

_base_ = '../_base_/mmdet/track_videos.py'

data_root = 'data/my_videos/'
classes = ('person', 'dog')
model = dict(
    detector='mmdet::rtmdet/rtmdet_m_8xb32-300e_coco.py',
    sam2='sam2.1_hiera_tiny',
    sam2_checkpoint='checkpoints/sam2.1_hiera_tiny.pt',
    classes=classes,
)
test_dataloader = dict(
    dataset=dict(
        type='BaseVideoDataset',
        data_root=data_root,
        ann_file='annotations.json',
        data_prefix=dict(img_path='images'),
        metainfo=dict(classes=classes),
    )
)
val_dataloader = test_dataloader
