"""What a program calls: functions that build a model, and predictors around it."""

from .automatic_mask_generator import (
    AutomaticMask,
    SAM2AutomaticMaskGenerator,
)
from .building import (
    build_sam2,
    build_sam2_hf,
    build_sam2_video_predictor,
    build_sam2_video_predictor_hf,
    fitting_config,
    load_model_config,
)
from .image_predictor import SAM2ImagePredictor
from .inference import (
    PromptableDataSample,
    inference_model,
    init_model,
    show_result_pyplot,
)
from .inference_io import InferenceResult
from .inferencer import ObjectPrompt, SAM2Inferencer
from .video_predictor import SAM2Stream, SAM2VideoPredictor

__all__ = [
    'AutomaticMask',
    'InferenceResult',
    'ObjectPrompt',
    'PromptableDataSample',
    'SAM2AutomaticMaskGenerator',
    'SAM2ImagePredictor',
    'SAM2Inferencer',
    'SAM2Stream',
    'SAM2VideoPredictor',
    'build_sam2',
    'build_sam2_hf',
    'build_sam2_video_predictor',
    'build_sam2_video_predictor_hf',
    'fitting_config',
    'inference_model',
    'init_model',
    'load_model_config',
    'show_result_pyplot',
]
