"""What a program calls: functions that build a model, with its weights."""

from projects.sam2.apis.building import build_sam2, fitting_config
from projects.sam2.apis.configs import load_model_config
from projects.sam2.apis.image_predictor import SAM2ImagePredictor

__all__ = ['SAM2ImagePredictor', 'build_sam2', 'fitting_config', 'load_model_config']
