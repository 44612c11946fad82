"""A small SAM 2.1 at 128 px, to be trained from random weights on a CPU.

It has every part of the released model. Training differs, because an untrained model is
wrong most of the time:

- Masks of objects that are predicted absent are not gated.
- The IoU prediction has a squared error. The absolute error would drive all predictions
  to 0, where the sigmoid has no gradient, before the first mask is any good; the best
  candidate could then no longer be chosen.
- Only one frame is prompted. A second one would leave a short clip little to track.
"""

image_size = (128, 128)
embed_dims = 64
memory_dims = 16

model = dict(
    type='SAM2',
    data_preprocessor=dict(type='ClipDataPreprocessor', image_size=image_size),
    image_encoder=dict(
        type='SAM2ImageEncoder',
        backbone=dict(
            type='Hiera',
            embed_dims=16,
            num_heads=1,
            stages=(1, 2, 3, 1),
            global_attention_blocks=(5,),
            window_sizes=(8, 4, 8, 4),
            position_embedding_size=(8, 8),
        ),
        neck=dict(
            type='HieraFPN', in_channels=(16, 32, 64, 128), out_channels=embed_dims
        ),
    ),
    tracker=dict(
        type='SAM2Tracker',
        memory_attention=dict(
            type='MemoryAttention',
            embed_dims=embed_dims,
            memory_dims=memory_dims,
            num_layers=2,
            feedforward_dims=128,
            dropout=0.0,
        ),
        memory_encoder=dict(
            type='MemoryEncoder', embed_dims=embed_dims, memory_dims=memory_dims
        ),
        memory_bank=dict(type='MemoryBank', num_frames=4),
        object_pointer=dict(
            type='SAM2ObjectPointer', embed_dims=embed_dims, memory_dims=memory_dims
        ),
        gate_training_masks=False,
    ),
    prompt_encoder=dict(type='SAM2PromptEncoder', embed_dims=embed_dims),
    mask_decoder=dict(type='SAM2MaskDecoder', embed_dims=embed_dims, mlp_dims=128),
    prompt_simulator=dict(
        type='SAM2PromptSimulator',
        point_probability=0.1,
        num_conditioning_frames=(1, 1),
        num_correction_frames=(1, 1),
        num_corrections=1,
    ),
    val_prompt_simulator=dict(type='SAM2PromptSimulator', point_probability=0.0),
    loss=dict(type='SAM2MultiStepLoss', iou_l1=False),
    accumulators=[
        dict(type='JFAccumulator'),
        dict(type='MaskletRecorder', max_videos=2, max_frames=40),
    ],
)
