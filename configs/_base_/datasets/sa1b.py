"""SA-1B: images as clips of one frame; those in holdout.txt validate."""

_base_ = './davis.py'

data_root = 'data/SA-1B'
train_pipeline = [
    dict(type='ClipSampleFrames', num_frames=1, max_num_objects=8),
    dict(type='ClipLoadFrames'),
    dict(type='ClipLoadMasklets'),
    dict(type='ClipRandomFlip'),
    dict(type='ClipResize', size=(1024, 1024)),
    dict(type='ClipWarp'),
    dict(type='ClipPack'),
]
train_dataloader = dict(
    batch_size=4,
    dataset=dict(
        _delete_=True,
        type='ClipSA1BDataset',
        data_root=data_root,
        exclude_list='holdout.txt',
        min_scores=dict(stability_score=0.9, predicted_iou=0.8),
        max_area_share=0.9,  # larger masks are background
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    dataset=dict(
        dataset=dict(
            _delete_=True,
            type='ClipSA1BDataset',
            data_root=data_root,
            file_list='holdout.txt',
            max_area_share=0.9,
        ),
    ),
)
test_dataloader = val_dataloader

# For the model of a config of images, `model = {{_base_.image_validation}}`. Boxes and
# clicks prompt the objects: a mask as the prompt would be scored against itself.
image_validation = dict(
    val_prompt_simulator=dict(
        _delete_=True, type='SAM2ImageRounds', click_counts=(1, 3, 5)
    ),
    accumulators=[
        dict(type='ClipPromptIoUAccumulator'),
        dict(type='MaskletRecorder', max_videos=8, max_frames=1),
    ],
)
val_evaluator = [dict(type='ClipPromptIoUMetric')]
test_evaluator = val_evaluator
