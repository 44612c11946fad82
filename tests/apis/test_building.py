"""Models are built with the weights that they were asked for, or not at all."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from torch import Tensor

from bridge_models import (
    RELEASED_MODELS,
    assert_same_weights,
    config_file,
    meta_model,
    small_config,
    small_model,
    write_small,
)
from projects.sam2.apis import build_sam2, fitting_config
from projects.sam2.apis.building import default_device
from projects.sam2.checkpoints import CheckpointKind, CheckpointMismatchError

KINDS = [kind.value for kind in CheckpointKind]


@pytest.mark.parametrize('kind', KINDS)
def test_model_comes_with_the_weights_of_each_kind_of_checkpoint(
    kind: str, tmp_path: Path
) -> None:
    wanted = small_model()
    write_small(tmp_path / 'weights', kind, wanted)
    config = config_file(tmp_path, small_config())
    model = build_sam2(config, tmp_path / 'weights')
    assert_same_weights(dict(model.state_dict()), dict(wanted.state_dict()))


def test_model_is_built_for_evaluation_unless_told_otherwise() -> None:
    config = Config({'model': small_config()})
    assert not any(module.training for module in build_sam2(config).modules())
    assert build_sam2(config, mode='train').mask_decoder.training


def test_model_goes_to_the_device() -> None:
    model = build_sam2(Config({'model': small_config()}), device='meta')
    assert {value.device.type for value in model.parameters()} == {'meta'}


def test_device_is_a_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for there, device in ((True, 'cuda'), (False, 'cpu')):
        monkeypatch.setattr(torch.cuda, 'is_available', lambda there=there: there)
        assert default_device() == device
        if not there:
            model = build_sam2(Config({'model': small_config()}))
            assert next(model.parameters()).device.type == device


@pytest.mark.parametrize(
    ('device', 'message'),
    [
        ('gpu', "'gpu' is no device; give 'cpu'"),
        ('cuda', 'There is no cuda: torch .* finds 0 GPUs; give another'),
        ('cuda:1', 'There is no cuda:1: torch'),
    ],
)
def test_device_that_is_not_there_is_refused(
    device: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 0)
    with pytest.raises(ValueError, match=message):
        build_sam2(Config({'model': small_config()}), device=device)


def test_unknown_mode_is_refused() -> None:
    with pytest.raises(ValueError, match="mode is 'test'; give 'eval' or 'train'"):
        build_sam2(Config({'model': small_config()}), mode='test')  # type: ignore[arg-type]


def test_size_that_the_backbone_cannot_divide_is_refused() -> None:
    with pytest.raises(ValueError, match='give multiples of 32'):
        build_sam2(Config({'model': small_config()}), image_size=(64, 100))


def test_one_side_is_of_a_square_and_others_than_numbers_are_named() -> None:
    config = Config({'model': small_config()})
    model = build_sam2(config, device='cpu', image_size=96)  # type: ignore[arg-type]
    assert model.data_preprocessor.image_size == (96, 96)
    for wrong, message in (
        ((64,), r'image_size is \(64,\); give \(height, width\)'),
        ((64, 64.5), r'image_size is 64\.5 \(float\); give a whole number'),
        ('64', r"image_size is '64' \(str\); give a whole"),
    ):
        with pytest.raises(ValueError, match=message):
            build_sam2(config, image_size=wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize('kind', KINDS)
def test_weights_of_another_version_stop_the_build(kind: str, tmp_path: Path) -> None:
    write_small(tmp_path / 'weights', kind, small_model())
    config = Config({'model': small_config('2.0')})
    with pytest.raises(CheckpointMismatchError) as raised:
        build_sam2(config, tmp_path / 'weights')
    assert str(raised.value).startswith(f'{tmp_path / "weights"} does not fit')
    assert 'holds SAM 2.1 of' in str(raised.value)


def test_file_of_something_else_stops_the_build(tmp_path: Path) -> None:
    torch.save({'net': {}}, tmp_path / 'x.pt')
    with pytest.raises(CheckpointMismatchError, match=r'x\.pt holds no weights'):
        build_sam2(Config({'model': small_config()}), tmp_path / 'x.pt')


@pytest.mark.parametrize('name', RELEASED_MODELS)
def test_released_weights_find_their_config(name: str) -> None:
    config = fitting_config(meta_model(name).state_dict(), source='x.pt')
    assert config.filename.endswith(name)


def _without_one(state: dict[str, Tensor]) -> dict[str, Tensor]:
    del state['mask_decoder.iou_token.weight']
    return state


def _image_part(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: value for key, value in state.items() if 'tracker.' not in key}


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (_without_one, '1 missing: mask_decoder.iou_token.weight'),
        (_image_part, 'the image part of SAM 2 of tiny, which no released config fits'),
        (lambda _: {'conv': torch.ones(1)}, 'no SAM 2, which no released config fits'),
    ],
)
def test_weights_that_no_config_fits_are_an_error(
    change: Callable[[dict[str, Tensor]], dict[str, Tensor]], message: str
) -> None:
    state = dict(meta_model('_base_/models/sam2_1_tiny.py').state_dict())
    with pytest.raises(CheckpointMismatchError, match=r'x\.pt') as raised:
        fitting_config(change(state), source='x.pt')
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ('model', 'found'),
    [
        ({'type': 'BaseDataPreprocessor'}, "'BaseDataPreprocessor'"),
        ({'type': 'Nothing'}, "'Nothing'"),
        ({'depth': 50}, 'None'),
        (None, 'None'),
    ],
)
def test_config_of_another_model_is_named(
    model: dict[str, Any] | None, found: str
) -> None:
    config = Config({'model': model})
    with pytest.raises(ValueError, match=f'a model of type SAM2 .* but got {found}'):
        fitting_config({}, config, source='x.pt')


def test_weights_of_an_own_size_need_their_config_named() -> None:
    state = small_model().state_dict()
    with pytest.raises(CheckpointMismatchError, match=r'give the config .*--config of'):
        fitting_config(state, source='x.pt')
    config = Config({'model': small_config()})
    assert fitting_config(state, config, source='x.pt') is config
    assert config.model.loss is not None
    with pytest.raises(CheckpointMismatchError, match=r'x\.pt does not fit'):
        fitting_config(state, 'sam2.1_hiera_t', source='x.pt')
