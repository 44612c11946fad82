"""Interactive validation: J&F by the number of frames that a simulated user corrects.

``online_user`` sees a video once, ``offline_user`` goes through it again after each
annotated frame. Eight frames, three clicks and an IoU of 0.75 are the paper's. Use one
of them as the model's ``val_prompt_simulator``, with the accumulators and the evaluator
below, as ``configs/sam2_tiny_mose_clicks.py`` does.
"""

online_user = dict(
    _delete_=True,
    type='SAM2OnlineRounds',
    num_frames=8,
    num_clicks=3,
    min_iou=0.75,
)
offline_user = dict(_delete_=True, type='SAM2OfflineRounds', num_frames=8, num_clicks=3)
interactive_accumulators = [
    dict(
        type='JFRoundsAccumulator',
        protocol=dict(type='JFSAVProtocol', skip_ends=False),
    ),
    dict(type='MaskletRecorder', max_videos=2, max_frames=40),
]
interactive_evaluator = [dict(type='JFRoundsMetric')]
