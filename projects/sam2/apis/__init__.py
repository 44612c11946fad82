"""What a program calls: functions that build a model, and predictors around it."""

from projects.sam2.apis.automatic_masks import (
    AutomaticMask,
    SAM2AutomaticMaskGenerator,
)
from projects.sam2.apis.building import build_sam2, fitting_config
from projects.sam2.apis.configs import load_model_config
from projects.sam2.apis.image_predictor import SAM2ImagePredictor
from projects.sam2.apis.inference_results import InferenceResult
from projects.sam2.apis.inferencer import SAM2Inferencer
from projects.sam2.apis.object_prompt import ObjectPrompt
from projects.sam2.apis.released_builders import (
    build_sam2_hf,
    build_sam2_video_predictor,
    build_sam2_video_predictor_hf,
)
from projects.sam2.apis.streaming import SAM2Stream
from projects.sam2.apis.video_predictor import SAM2VideoPredictor

__all__ = [
    'AutomaticMask',
    'InferenceResult',
    'ObjectPrompt',
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
    'load_model_config',
]
