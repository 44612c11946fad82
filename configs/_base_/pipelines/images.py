"""Images as clips of one frame, in batches of 4; validates with boxes and clicks."""

_base_ = './clips.py'

train_pipeline = [
    dict(type='ClipSampleFrames', num_frames=1, max_num_objects=8),
    *_base_.load_clip,
    dict(type='ClipResize', size=_base_.clip_size),
    dict(type='ClipWarp'),
    dict(type='ClipPack'),
]
train_dataloader = dict(batch_size=4)

# For the model of an image config: `model = {{_base_.image_validation}}`. Objects are
# prompted by boxes and clicks: a mask prompt would be scored against itself.
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
