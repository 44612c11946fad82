"""Settings that do not depend on model, data or schedule; imports ``projects.sam2``."""

default_scope = 'mmengine'
custom_imports = dict(imports=['projects.sam2'], allow_failed_imports=False)

env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    # Seconds. A process with short validation videos waits for the others.
    dist_cfg=dict(backend='nccl', timeout=7200),
)
randomness = dict(seed=42)
# The prompts of a step decide which parameters get a gradient.
model_wrapper_cfg = dict(
    type='MMDistributedDataParallel',
    find_unused_parameters=True,
)

default_hooks = dict(
    runtime_info=dict(type='SAM2RuntimeInfoHook'),
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=10),
    diagnostics=dict(type='ClipDiagnosticsHook'),
    param_scheduler=dict(type='ParamSchedulerHook'),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    random_state=dict(type='ClipRandomStateHook'),
    checkpoint_check=dict(type='SAM2CheckpointCheckHook'),
    checkpoint=dict(
        type='SAM2CheckpointHook',
        interval=1,
        max_keep_ckpts=3,
        save_best='J&F',
        rule='greater',
    ),
    non_finite=dict(type='ClipNonFiniteHook', max_consecutive=5, max_total=100),
    distillation=dict(type='SAM2DistillationHook'),
    preemption=dict(type='ClipPreemptionHook'),
    visualization=dict(type='ClipVisualizationHook'),
)
visualizer = dict(
    type='ClipVisualizer',
    vis_backends=[dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')],
)
log_processor = dict(type='LogProcessor', window_size=20, by_epoch=True)
log_level = 'INFO'

# `test.py --tta` wraps the model in it; scales=(1.0, 1.25) adds larger views.
tta_model = dict(type='SAM2TTAModel', flips=(False, True), scales=(1.0,))

load_from = None
resume = False
