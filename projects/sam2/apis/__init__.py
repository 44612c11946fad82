"""What a program calls: functions that build a model, with its weights."""

from projects.sam2.apis.building import build_sam2, fitting_config
from projects.sam2.apis.configs import load_model_config

__all__ = ['build_sam2', 'fitting_config', 'load_model_config']
