"""SAM 2.1 tiny, as released, with the prompts of the published fine-tuning recipe.

The other sizes differ in the backbone only.
"""

image_size = (1024, 1024)

model = dict(
    type='SAM2',
    data_preprocessor=dict(
        type='ClipDataPreprocessor',
        image_size=image_size,
        mean=(123.675, 116.28, 103.53),
        std=(58.395, 57.12, 57.375),
    ),
    image_encoder=dict(
        type='SAM2ImageEncoder',
        backbone=dict(
            type='Hiera',
            embed_dims=96,
            num_heads=1,
            stages=(1, 2, 7, 2),
            global_attention_blocks=(5, 7, 9),
            window_sizes=(8, 4, 14, 7),
            position_embedding_size=(7, 7),
            drop_path_rate=0.1,
        ),
        neck=dict(type='HieraFPN', in_channels=(96, 192, 384, 768)),
    ),
    tracker=dict(
        type='SAM2Tracker',
        memory_attention=dict(type='MemoryAttention'),
        memory_encoder=dict(type='MemoryEncoder'),
        memory_bank=dict(type='MemoryBank'),
        object_pointer=dict(type='SAM2ObjectPointer', time_encoding='signed'),
        no_object_embedding=True,
    ),
    prompt_encoder=dict(type='SAM2PromptEncoder'),
    mask_decoder=dict(type='SAM2MaskDecoder'),
    prompt_simulator=dict(
        type='SAM2PromptSimulator',
        point_probability=0.5,
        box_probability=0.5,
        truth_click_probability=0.1,
        num_conditioning_frames=(1, 2),
        num_correction_frames=(1, 2),
        num_corrections=7,
    ),
    val_prompt_simulator=dict(
        type='SAM2PromptSimulator',
        point_probability=0.0,
        num_conditioning_frames=(1, 1),
        num_correction_frames=(1, 1),
    ),
    loss=dict(type='SAM2MultiStepLoss'),
    accumulators=[
        dict(type='JFAccumulator'),
        dict(type='MaskletRecorder', max_videos=2, max_frames=40),
    ],
)
