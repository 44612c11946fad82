"""One error lists all that does not fit a model; adapters are fitted."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from mmengine.registry import MODELS
from torch import Tensor, nn

from bridge_models import SIZES, VERSIONS, meta_model, shapes_of
from golden_cases import GoldenCase, discover
from golden_models import tiny_config
from projects.sam2.checkpoints import (
    CheckpointMismatchError,
    check_weights,
    map_from_released,
    map_to_released,
    recognise_model,
    weights_of,
)
from projects.sam2.checkpoints.weights import MODEL_KEY

# Parameters in millions, as published with the models.
PUBLISHED = {'tiny': 38.9, 'small': 46.0, 'bplus': 80.8, 'large': 224.4}
OF_MANIFEST = {'t': 'tiny', 's': 'small', 'b+': 'bplus', 'l': 'large'}


from projects.sam2.checkpoints import (
    ADAPTER_FIELD,
    adapter_weights_of,
    fit_adapters,
    is_adapter_key,
    to_plain_key,
)

PLAIN: dict[str, Tensor] = {
    'a.weight': torch.tensor([[3.0, 4.0], [0.0, 2.0]]),
    'a.bias': torch.ones(2),
    'b.weight': torch.ones(1),
}
ADAPTED: dict[str, Tensor] = {
    'a.base_layer.weight': torch.zeros(2, 2),
    'a.base_layer.bias': torch.zeros(2),
    'a.lora_A.default.weight': torch.full((1, 2), 7.0),
    'a.lora_magnitude_vector.default.weight': torch.zeros(2),
    'b.weight': torch.zeros(1),
}


@pytest.mark.golden
@pytest.mark.parametrize('case', discover('manifest_*'))
def test_model_has_exactly_the_released_weights(case: GoldenCase) -> None:
    version, size = case.name.removeprefix('manifest_').replace('train_', '').split('_')
    name = f'sam{version.replace(".", "_")}_{OF_MANIFEST[size]}.py'
    model = meta_model(f'_base_/models/{name}')
    released = {k: tuple(v['shape']) for k, v in case.spec['state_dict'].items()}
    assert map_to_released(shapes_of(model)) == released
    assert sum(p.numel() for p in model.parameters()) == case.spec['n_params']
    kind = recognise_model(map_from_released(released))
    assert kind is not None
    assert kind.config == f'_base_/models/{name}'


@pytest.mark.parametrize('version', VERSIONS)
@pytest.mark.parametrize('size', SIZES)
def test_each_config_is_recognised_and_as_large_as_published(
    size: str, version: str
) -> None:
    config = f'_base_/models/sam{version.replace(".", "_")}_{size}.py'
    model = meta_model(config)
    kind = recognise_model(shapes_of(model))
    assert kind is not None
    assert (kind.version, kind.size, kind.config) == (version, size, config)
    millions = sum(p.numel() for p in model.parameters()) / 1e6
    assert millions == pytest.approx(PUBLISHED[size], abs=0.1)


@pytest.fixture
def model() -> nn.Module:
    """A model of 2.1 of no released size."""
    torch.manual_seed(0)
    config: dict[str, Any] = tiny_config() | {'loss': None}
    built: nn.Module = MODELS.build(config)
    return built


def _message(state: Mapping[str, Tensor], model: nn.Module) -> str:
    with pytest.raises(CheckpointMismatchError) as raised:
        check_weights(state, model, source='weights.pt')
    return str(raised.value)


@pytest.mark.parametrize(
    'prefix', ['', 'module.', 'model.', 'module._orig_mod.', 'lightning.sam2.']
)
def test_weights_that_fit_pass_with_or_without_the_prefix_of_a_wrapper(
    model: nn.Module, prefix: str
) -> None:
    state = {prefix + key: value for key, value in model.state_dict().items()}
    weights = weights_of({'state_dict': state}, source='weights.pt')
    assert weights.keys() == model.state_dict().keys()
    check_weights(weights, model, source='weights.pt')


def test_other_parts_of_a_larger_model_are_left_out(model: nn.Module) -> None:
    state = {f'sam2.{key}': value for key, value in model.state_dict().items()}
    state |= {'criterion.weight': torch.ones(2)}
    weights = weights_of({'state_dict': state}, source='last.ckpt')
    check_weights(weights, model, source='last.ckpt')


def test_error_about_missing_weights_names_the_content() -> None:
    with pytest.raises(CheckpointMismatchError) as raised:
        weights_of({'net': 1, 'args': 2}, source='x.pt')
    assert str(raised.value).startswith('x.pt holds no weights')
    assert "['args', 'net']" in str(raised.value)


@pytest.mark.parametrize(
    ('held', 'message'),
    [
        ({'state': {}, 'param_groups': []}, 'the state of an optimizer and no weights'),
        ({'a.mask_decoder.x': 1}, 'no weights that this project can read'),
        (
            {
                'sam_mask_decoder.iou_token.weight': torch.ones(1),
                'sam_mask_decoder.mask_tokens.weight': torch.ones(1),
            },
            r'a part of SAM 2 alone \(sam_mask_decoder\)',
        ),
        (
            {'prompt_encoder.pe_layer.positional_encoding_gaussian_matrix': 1},
            'holds the first SAM',
        ),
        (
            {f'{name}.{MODEL_KEY}': torch.ones(1) for name in ('student', 'teacher')},
            r"holds several models, under \['student.', 'teacher.'\]",
        ),
        ({'state_dict': {MODEL_KEY: 1}}, '1 weights are no dense tensors'),
    ],
)
def test_checkpoint_of_something_else_is_named(
    held: dict[str, Any], message: str
) -> None:
    with pytest.raises(CheckpointMismatchError, match=message):
        weights_of(held, source='x.pt')


def test_one_error_lists_all_problems(model: nn.Module) -> None:
    state = dict(model.state_dict())
    del state['mask_decoder.iou_token.weight']
    state['mask_decoder.extra'] = torch.zeros(1)
    state['mask_decoder.mask_tokens.weight'] = torch.zeros(3, 64)
    message = _message(state, model)
    assert 'weights.pt does not fit the model' in message
    assert '1 missing: mask_decoder.iou_token.weight' in message
    assert '1 unexpected: mask_decoder.extra' in message
    wrong = 'mask_decoder.mask_tokens.weight (3, 64) instead of (4, 64)'
    assert f'1 of another shape: {wrong}' in message


def test_file_of_2_0_under_a_2_1_config_names_the_config_to_use() -> None:
    file = meta_model('_base_/models/sam2_0_tiny.py')
    model = meta_model('_base_/models/sam2_1_tiny.py')
    message = _message(file.state_dict(), model)
    assert 'SAM 2.0 of tiny; the model is SAM 2.1 of tiny' in message
    assert "_base_ = '_base_/models/sam2_0_tiny.py'" in message
    assert 'tracker.no_object_embedding' in message


def test_file_of_another_size_names_its_config() -> None:
    file = meta_model('_base_/models/sam2_1_small.py')
    message = _message(file.state_dict(), meta_model('_base_/models/sam2_1_tiny.py'))
    assert "_base_ = '_base_/models/sam2_1_small.py'" in message
    assert ', and ' in message  # of many keys only some are named
    assert message.count('image_encoder.backbone') < 30


def test_error_about_another_size_names_both_sizes(model: nn.Module) -> None:
    file = meta_model('_base_/models/sam2_1_tiny.py')
    message = _message(file.state_dict(), model)
    assert 'SAM 2.1 of tiny; the model is SAM 2.1 of a size of its own' in message


def test_weights_of_an_own_size_point_to_the_config_they_came_from(
    model: nn.Module,
) -> None:
    released = meta_model('_base_/models/sam2_1_tiny.py')
    assert 'the config that the file was trained with' in _message(
        model.state_dict(), released
    )


def test_weights_of_another_model_are_recognised(model: nn.Module) -> None:
    assert recognise_model({'conv.weight': (1,)}) is None
    message = _message({'conv.weight': torch.zeros(1)}, model)
    assert 'The file holds no SAM 2;' in message
    assert 'Give a released SAM 2 file' in message


def test_image_part_alone_is_recognised() -> None:
    whole = meta_model('_base_/models/sam2_1_tiny.py')
    image_part = {
        key: value
        for key, value in whole.state_dict().items()
        if not key.startswith('tracker.') or key == 'tracker.no_memory_embedding'
    }
    kind = recognise_model(shapes_of(image_part))
    assert kind is not None
    assert (kind.version, kind.size, kind.config) == (None, 'tiny', None)
    message = _message(image_part, whole)
    assert 'holds the image part of SAM 2 of tiny; the model is SAM 2.1' in message
    assert 'Sam2VideoModel, not from Sam2Model' in message
    assert 'sam2_0' not in message


def test_same_kind_of_file_that_lacks_weights_is_the_wrong_file(
    model: nn.Module,
) -> None:
    state = dict(model.state_dict())
    del state['mask_decoder.iou_token.weight']
    assert 'the file that belongs to this config' in _message(state, model)


@pytest.mark.parametrize(
    ('config', 'lacking', 'name'),
    [
        ('edgetam_mini', 'backbone.stem.2.conv.weight', 'EdgeTAM'),
        ('efficienttam_mini', 'neck.conv.weight', 'EfficientTAM'),
        ('efficienttam_mini', 'backbone.position_embedding', 'EfficientTAM'),
        ('sam3_tracker_mini', 'backbone.tiled_position_embedding', "SAM 3's tracker"),
    ],
)
def test_file_that_lacks_a_weight_is_named_as_what_it_is(
    config: str, lacking: str, name: str
) -> None:
    model = meta_model(f'_base_/models/{config}.py')
    state = dict(model.state_dict())
    del state[f'image_encoder.{lacking}']
    message = _message(state, model)
    assert f'The file holds {name}' in message
    assert 'the file that belongs to this config' in message


@pytest.mark.parametrize(
    ('value', 'says'),
    [
        (torch.tensor(float('nan')), 'NaN or infinite'),
        (torch.tensor(float('-inf')), 'NaN or infinite'),
        (torch.tensor(1), r'torch\.int64, not floating'),
        (torch.tensor(1 + 1j), r'torch\.complex64, not floating'),
    ],
)
def test_weights_that_no_model_has_are_named(
    model: nn.Module, value: Tensor, says: str
) -> None:
    weights = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    check_weights(weights, model, source='file.pt')
    key = 'tracker.no_object_embedding'
    broken = weights[key].to(value.dtype)
    broken.view(-1)[0] = value
    with pytest.raises(CheckpointMismatchError, match=rf'file\.pt: 1 .*{says}.*{key}'):
        check_weights(weights | {key: broken}, model, source='file.pt')


def test_plain_weights_go_to_base_layers_and_adapters_start_fresh() -> None:
    fitted = fit_adapters(PLAIN, ADAPTED)
    assert fitted.keys() == ADAPTED.keys()
    assert fitted['a.base_layer.weight'] is PLAIN['a.weight']
    assert fitted['b.weight'] is PLAIN['b.weight']
    assert fitted['a.lora_A.default.weight'].tolist() == [[7.0, 7.0]]
    # The lengths of the rows, which DoRA trains.
    assert fitted['a.lora_magnitude_vector.default.weight'].tolist() == [5.0, 2.0]


def test_weights_that_fit_already_are_left_alone() -> None:
    assert fit_adapters(ADAPTED, ADAPTED) == ADAPTED
    assert fit_adapters(PLAIN, PLAIN) == PLAIN


def test_names_of_adapters_and_adapted_layers_are_distinguished() -> None:
    plain = [to_plain_key(key) for key in ADAPTED if not is_adapter_key(key)]
    assert plain == list(PLAIN)


def test_other_file_than_one_of_adapters_is_named() -> None:
    assert adapter_weights_of({ADAPTER_FIELD: PLAIN}, source='x') == PLAIN
    with pytest.raises(ValueError, match=r"x.pth is no file of adapters.*'state_dict'"):
        adapter_weights_of({'state_dict': PLAIN}, source='x.pth')


def test_file_of_trained_weights_is_not_accepted_as_a_checkpoint() -> None:
    message = r'part\.pth .* not the rest; .*--base.*adapters'
    with pytest.raises(CheckpointMismatchError, match=message):
        weights_of({ADAPTER_FIELD: PLAIN}, source='part.pth')
