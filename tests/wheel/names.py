"""Checks that every released name builds, and that both names are one package."""

import mmsam2
import mmsam2.models
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from mmsam2.apis import build_sam2, load_model_config

import projects.sam2.models

assert projects.sam2 is mmsam2
assert projects.sam2.models.SAM2 is mmsam2.models.SAM2 is MODELS.get('SAM2')

for version in ('2', '2.1'):
    for size in ('t', 's', 'b+', 'l'):
        name = f'configs/sam{version}/sam{version}_hiera_{size}.yaml'
        with torch.device('meta'):  # the shapes alone: large has 224 million weights
            model = MODELS.build(load_model_config(name).model)
        print(name, sum(weight.numel() for weight in model.parameters()))
model = build_sam2('sam2.1_hiera_t', device='cpu')
assert type(model).__module__ == 'mmsam2.models.sam2'

for name in ('mmsam2::sam2_tiny_mose.py', 'mmsam2::_base_/models/sam2_1_tiny.py'):
    config = Config.fromstring(f"_base_ = '{name}'", '.py')
    assert config.model.type == 'SAM2'
