"""Images as clips of one frame, in batches of 4, and how to validate on them."""

_base_ = './clips.py'

train_pipeline = [
    dict(type='ClipSampleFrames', num_frames=1, max_num_objects=8),
    *_base_.load_clip,
    dict(type='ClipResize', size=_base_.clip_size),
    dict(type='ClipWarp'),
    dict(type='ClipPack'),
]
train_dataloader = dict(batch_size=4)

# For the model of a config of images, `model = dict({{_base_.image_validation}})`. The
# protocol of DAVIS leaves out the first and the last frame, hence the only one; a mask
# as the prompt would be scored against itself, so objects are prompted by boxes.
image_validation = dict(
    val_prompt_simulator=dict(
        point_probability=1.0, box_probability=1.0, num_corrections=0
    ),
    accumulators=[
        dict(
            type='JFAccumulator', protocol=dict(type='JFSAVProtocol', skip_ends=False)
        ),
        dict(type='MaskletRecorder', max_videos=8, max_frames=1),
    ],
)
