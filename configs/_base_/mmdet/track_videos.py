"""Detect and track: any detector of mmdetection every few frames, SAM 2 on all of them.

Configs add the detector and the dataset. Frames are loaded and not resized, since the
detector has its own test pipeline. They come one at a time.
"""

_base_ = [
    'mmdet::_base_/default_runtime.py',
    './custom_imports.py',
]

model = dict(
    type='SAM2DetectorTracker',
    every=4,
    score_thr=0.3,
    rules=dict(start_score=0.5),
)
test_pipeline = [
    dict(
        type='TransformBroadcaster',
        transforms=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadTrackAnnotations', with_mask=True),
        ],
    ),
    dict(type='PackTrackInputs'),
]
test_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='TrackImgSampler'),  # frame by frame
    dataset=dict(test_mode=True, pipeline=test_pipeline),
)
val_dataloader = test_dataloader
test_evaluator = [dict(type='MaskletVISMetric'), dict(type='JFTrackMetric')]
val_evaluator = test_evaluator
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
default_hooks = dict(
    visualization=dict(type='TrackVisualizationHook', draw=False, frame_interval=1)
)
visualizer = dict(
    type='MaskletTrackVisualizer',
    vis_backends=[dict(type='LocalVisBackend')],
    name='visualizer',
)
