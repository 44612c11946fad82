"""Checkpoints of each kind are written as their owners write them."""

import json
from itertools import permutations
from pathlib import Path

import pytest
import torch
from torch import Tensor

from bridge_models import (
    RELEASED_MODELS,
    assert_same_weights,
    meta_model,
    released_config,
    small_config,
    small_model,
    write_small,
)
from golden_models import tiny_config
from projects.sam2.checkpoints import (
    CheckpointKind,
    map_to_released,
    read_checkpoint,
    write_checkpoint,
)

KINDS = [kind.value for kind in CheckpointKind]

from mmengine.config import ConfigDict

from bridge_models import (
    shapes_of,
)
from projects.sam2.checkpoints import huggingface_config, map_to_huggingface
from transformers_models import transformers

# Notes of transformers about itself, and the class that wrote the file.
NOTES = {'architectures', 'transformers_version', 'torch_dtype', 'dtype'}


@pytest.fixture(scope='module')
def weights() -> dict[str, Tensor]:
    return dict(small_model().state_dict())


def _write(target: Path, weights: dict[str, Tensor], kind: str) -> None:
    write_checkpoint(target, weights, CheckpointKind(kind), small_config())


@pytest.mark.parametrize('name', RELEASED_MODELS)
def test_every_weight_of_every_model_returns_through_all_kinds(
    name: str, tmp_path: Path
) -> None:
    keys = meta_model(name).state_dict().keys()
    # A number in place of each weight tells which one it was.
    wanted = {key: torch.full((1, 1), float(n)) for n, key in enumerate(keys)}
    weights: dict[str, Tensor] = dict(wanted)
    for kind in CheckpointKind:
        write_checkpoint(tmp_path / kind.value, weights, kind, released_config(name))
        weights = read_checkpoint(str(tmp_path / kind.value))['state_dict']
        assert_same_weights(weights, wanted)


@pytest.mark.parametrize(('first', 'second'), list(permutations(KINDS, 2)))
def test_weights_survive_two_conversions_bit_for_bit(
    first: str, second: str, weights: dict[str, Tensor], tmp_path: Path
) -> None:
    there, back = tmp_path / 'there', tmp_path / 'back'
    _write(there, weights, first)
    _write(back, read_checkpoint(str(there))['state_dict'], second)
    assert_same_weights(read_checkpoint(str(back))['state_dict'], weights)


def test_released_file_has_the_released_layout(
    weights: dict[str, Tensor], tmp_path: Path
) -> None:
    _write(tmp_path / 'sam2.pt', weights, 'released')
    content = torch.load(tmp_path / 'sam2.pt', weights_only=True)
    assert content.keys() == {'model'}
    assert_same_weights(content['model'], map_to_released(weights))


def test_our_file_has_the_layout_of_mmengine(
    weights: dict[str, Tensor], tmp_path: Path
) -> None:
    _write(tmp_path / 'sam2.pth', weights, 'mmsam2')
    content = torch.load(tmp_path / 'sam2.pth', weights_only=True)
    assert content.keys() == {'state_dict'}
    assert_same_weights(content['state_dict'], weights)


def test_folder_of_transformers_has_its_two_files(
    weights: dict[str, Tensor], tmp_path: Path
) -> None:
    _write(tmp_path / 'sam2', weights, 'huggingface')
    names = sorted(path.name for path in (tmp_path / 'sam2').iterdir())
    assert names == ['config.json', 'model.safetensors']
    config = json.loads((tmp_path / 'sam2' / 'config.json').read_text())
    assert config['model_type'] == 'sam2_video'


@pytest.mark.parametrize('kind', ['released', 'mmsam2'])
def test_same_weights_give_the_same_bytes_in_any_order_under_any_name(
    kind: str, weights: dict[str, Tensor], tmp_path: Path
) -> None:
    turned = dict(reversed(weights.items()))
    for name, state in (('a.pth', weights), ('another.pt', turned)):
        _write(tmp_path / name, state, kind)
    first, second = (path.read_bytes() for path in tmp_path.iterdir())
    assert first == second


@pytest.mark.parametrize('kind', KINDS)
def test_nothing_that_exists_is_overwritten(kind: str, tmp_path: Path) -> None:
    model = small_model()
    for target in (tmp_path / 'file', tmp_path / 'folder' / 'inner'):
        target.parent.mkdir(exist_ok=True)
        target.write_text('kept')
    for target in (tmp_path / 'file', tmp_path / 'folder'):
        with pytest.raises(FileExistsError, match=f'{target.name} exists; remove it'):
            write_small(target, kind, model)
    assert (tmp_path / 'file').read_text() == 'kept'
    assert (tmp_path / 'folder' / 'inner').read_text() == 'kept'


@pytest.mark.parametrize('kind', ['released', 'mmsam2'])
def test_file_is_not_begun_where_an_empty_folder_is(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, 'save', lambda *_: pytest.fail('began to write'))
    with pytest.raises(FileExistsError, match=f'is a folder.*{kind} is a file; name'):
        _write(tmp_path, {}, kind)
    assert tmp_path.is_dir()


def test_failed_write_leaves_nothing_behind(
    weights: dict[str, Tensor], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match='transformers has no SAM 2 like this'):
        write_checkpoint(
            tmp_path / 'sam2', weights, CheckpointKind.HUGGINGFACE, tiny_config()
        )
    with pytest.raises(KeyError, match=r"'own\.weight' is no known name"):
        _write(tmp_path / 'sam2.pt', {'own.weight': torch.zeros(1)}, 'released')
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('name', RELEASED_MODELS)
def test_transformers_builds_a_model_with_exactly_our_weights(
    name: str,
) -> None:
    config = transformers().Sam2VideoConfig(**huggingface_config(released_config(name)))
    with torch.device('meta'):
        built = transformers().Sam2VideoModel(config)
    theirs = shapes_of(built)
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


def test_settings_without_a_weight_follow_the_config() -> None:
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
def test_model_that_is_not_sam_2_is_named(
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
