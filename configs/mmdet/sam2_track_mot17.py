"""Detect and track pedestrians on the second halves of MOT17's training videos.

``pip install trackeval==1.3.0`` for the metric. Folders and annotations are those of
mmdetection's tracking guide. Give a detector that was trained on MOT17 for published
numbers; this one was trained on COCO.
"""

_base_ = '../_base_/mmdet/track_videos.py'

data_root = 'data/MOT17/'
model = dict(
    detector='mmdet::rtmdet/rtmdet_m_8xb32-300e_coco.py',
    sam2='sam2.1_hiera_tiny',
    sam2_checkpoint='checkpoints/sam2.1_hiera_tiny.pt',
    classes=('pedestrian',),
    class_map=dict(person='pedestrian'),
    # Each pixel belongs to one person at most, as boxes of a crowd overlap.
    predictor=dict(non_overlap_masks=True),
    rules=dict(max_absent=30, max_missed=5),
)
test_pipeline = [
    dict(
        type='TransformBroadcaster',
        transforms=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadTrackAnnotations'),
        ],
    ),
    dict(type='PackTrackInputs'),
]
test_dataloader = dict(
    dataset=dict(
        type='MOTChallengeDataset',
        data_root=data_root,
        ann_file='annotations/half-val_cocoformat.json',
        data_prefix=dict(img_path='train'),
        metainfo=dict(classes=('pedestrian',)),
        pipeline=test_pipeline,
    )
)
val_dataloader = test_dataloader
test_evaluator = dict(
    _delete_=True, type='MOTChallengeMetric', metric=['HOTA', 'CLEAR', 'Identity']
)
val_evaluator = test_evaluator
