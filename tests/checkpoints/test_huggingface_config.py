"""The config that transformers builds its model from, judged by transformers."""

import pytest
import torch
from mmengine.config import ConfigDict

from bridge_models import (
    RELEASED_MODELS,
    meta_model,
    released_config,
    shapes_of,
    small_config,
)
from projects.sam2.checkpoints import huggingface_config, map_to_huggingface
from projects.sam2.checkpoints.key_map import COPIES
from transformers_models import transformers

# Notes of transformers about itself, and the class that wrote the file.
NOTES = {'architectures', 'transformers_version', 'torch_dtype', 'dtype'}


@pytest.mark.parametrize('name', RELEASED_MODELS)
def test_transformers_builds_a_model_with_exactly_our_weights(
    name: str,
) -> None:
    config = transformers().Sam2VideoConfig(**huggingface_config(released_config(name)))
    with torch.device('meta'):
        built = transformers().Sam2VideoModel(config)
    theirs = shapes_of(built)
    for _, copy in COPIES:
        del theirs[copy]
    ours = map_to_huggingface(meta_model(name).state_dict())
    assert shapes_of(ours) == theirs


def test_tiny_2_1_is_what_transformers_builds_by_default() -> None:
    ours = huggingface_config(released_config('_base_/models/sam2_1_tiny.py'))
    given = transformers().Sam2VideoConfig(**ours).to_dict()
    default = transformers().Sam2VideoConfig().to_dict()
    differing = {key for key in default if given.get(key) != default[key]}
    assert differing <= NOTES
    assert given['architectures'] == ['Sam2VideoModel']
    assert given['vision_config'] == default['vision_config']


def test_what_no_shape_tells_follows_the_config() -> None:
    large = huggingface_config(released_config('_base_/models/sam2_0_large.py'))
    backbone = large['vision_config']['backbone_config']
    assert backbone['window_size_per_stage'] == [8, 4, 16, 8]
    assert backbone['global_attention_blocks'] == [23, 33, 43]
    assert backbone['num_attention_heads_per_stage'] == [2, 4, 8, 16]
    assert large['enable_occlusion_spatial_embedding'] is False
    assert large['enable_temporal_pos_encoding_for_object_pointers'] is False
    model = ConfigDict(small_config())
    model.tracker.memory_bank.update(num_frames=4, max_pointers=5)
    model.image_encoder.neck.top_down_levels = (3,)
    model.mask_decoder.stability_selection = False
    small = huggingface_config(model)
    assert (small['num_maskmem'], small['max_object_pointers_in_encoder']) == (4, 5)
    assert small['vision_config']['fpn_top_down_levels'] == [3]
    decoder = small['mask_decoder_config']
    assert decoder['dynamic_multimask_via_stability'] is False
    assert (decoder['hidden_size'], decoder['mlp_dim']) == (128, 256)
    assert small['memory_attention_rope_feat_sizes'] == [16, 16]
    assert small['vision_config']['backbone_feature_sizes'][0] == [64, 64]
    del model['data_preprocessor']
    assert huggingface_config(model)['image_size'] == 1024


@pytest.mark.parametrize(
    ('part', 'argument', 'value', 'message'),
    [
        ('tracker.memory_attention', 'memory_dims', 16, 'memory_dims is 16, not 64'),
        ('mask_decoder', 'object_score', False, 'object_score is False, not True'),
        (
            'tracker.object_pointer',
            'time_encoding',
            'unsigned',
            "time_encoding is 'unsigned', none of",
        ),
        ('data_preprocessor', 'image_size', (256, 128), '256 x 128 is no square'),
        (
            'image_encoder.backbone',
            'type',
            'HieraFPN',
            "backbone.type is 'HieraFPN', not 'Hiera'",
        ),
        ('image_encoder.backbone', 'type', 'Nothing', "'Nothing' is no registered"),
    ],
)
def test_model_that_transformers_cannot_build_is_refused(
    part: str, argument: str, value: object, message: str
) -> None:
    model = ConfigDict(small_config())
    node = model
    for name in part.split('.'):
        node = node[name]
    node[argument] = value
    with pytest.raises(ValueError, match=message):
        huggingface_config(model)


@pytest.mark.parametrize(
    ('place', 'value', 'message'),
    [
        ('image_encoder', None, r'model\.image_encoder\.backbone .* got NoneType'),
        ('image_encoder', 'Hiera', r'model\.image_encoder\.backbone .* got NoneType'),
        ('image_encoder', {'neck': 3}, r'model\.image_encoder\.backbone .* NoneType'),
        ('tracker', [], r'model\.tracker .* got list in a model of type'),
        ('mask_decoder', {'dims': 3}, r'model\.mask_decoder .* but got dict'),
        (
            'data_preprocessor',
            {'type': 'ImgDataPreprocessor', 'mean': [0.0]},
            r"to have image_size, but got a ImgDataPreprocessor with \[.*'mean'",
        ),
        (
            'mask_decoder',
            {'type': 'ImgDataPreprocessor'},
            "mask_decoder.type is 'ImgDataPreprocessor'.*object_score is None",
        ),
    ],
)
def test_model_that_is_no_sam_2_is_named(
    place: str, value: object, message: str
) -> None:
    model = small_config() | {place: value}
    with pytest.raises(ValueError, match=message):
        huggingface_config(model)


def test_model_of_another_project_is_named() -> None:
    with pytest.raises(
        ValueError, match=r"'ResNet' with .*'depth', .*; give the config"
    ):
        huggingface_config({'type': 'ResNet', 'depth': 50})
