"""Which config a name means."""

from pathlib import Path

import pytest
from mmengine.config import Config

from projects.sam2.apis import load_model_config
from projects.sam2.apis.building import CONFIG_DIR


@pytest.mark.parametrize(
    ('name', 'file'),
    [
        ('configs/sam2.1/sam2.1_hiera_b+.yaml', 'sam2_1_bplus'),
        ('configs/sam2.1/sam2.1_hiera_t.yaml', 'sam2_1_tiny'),
        ('sam2.1/sam2.1_hiera_l', 'sam2_1_large'),
        ('sam2_hiera_s.yaml', 'sam2_0_small'),
        ('configs\\sam2.1\\sam2.1_hiera_s.yaml', 'sam2_1_small'),
        ('sam2_hiera_l', 'sam2_0_large'),
        ('sam2.1_hiera_base_plus', 'sam2_1_bplus'),
        ('facebook/sam2-hiera-base-plus', 'sam2_0_bplus'),
        ('facebook/sam2.1-hiera-tiny', 'sam2_1_tiny'),
        ('_base_/models/sam2_0_tiny.py', 'sam2_0_tiny'),
    ],
)
def test_released_name_means_the_config_of_its_model(name: str, file: str) -> None:
    config = load_model_config(name)
    assert config.filename == str(CONFIG_DIR / '_base_' / 'models' / f'{file}.py')


def test_path_of_a_config_is_read_from_anywhere(tmp_path: Path) -> None:
    path = tmp_path / 'own.py'
    path.write_text("model = dict(type='Own')")
    for given in (path, str(path)):
        assert load_model_config(given).model.type == 'Own'
    assert load_model_config('sam2_tiny_mose.py').model.type == 'SAM2'


def test_config_that_was_read_is_taken_as_it_is() -> None:
    config = Config({'model': {'type': 'Own'}})
    assert load_model_config(config) is config


@pytest.mark.parametrize(
    'name',
    [
        'nowhere.py',
        'sam2.1_hiera_xxl',
        'sam2.1_hiera_',
        'sam2.1_hiera_t512.yaml',
        'sam2.1_hiera_t-v2.yaml',
        'sam3_hiera_t',
        'sam2',
        '',
    ],
)
def test_unknown_name_is_an_error_that_says_what_would_do(name: str) -> None:
    with pytest.raises(FileNotFoundError) as raised:
        load_model_config(name)
    assert str(raised.value).startswith(f'{name} is no config')
    assert 'sam2.1_hiera_b+' in str(raised.value)


def test_released_yaml_beside_the_run_is_not_mistaken_for_a_config(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / 'sam2.1_hiera_t.yaml').write_text('model: 1')
    monkeypatch.chdir(tmp_path)
    assert load_model_config('sam2.1_hiera_t.yaml').model.type == 'SAM2'


@pytest.mark.parametrize(
    ('name', 'message'),
    [
        ('own.yaml', r'is a YAML file.*hydra_overrides_extra=.*a config whose _base_'),
        ('own.YML', 'is a YAML file'),
        ('sam2.1_hiera_t512.yaml', 'is a YAML file'),
        ('own.pt', 'the config first and the checkpoint second'),
    ],
)
def test_file_that_is_no_config_is_not_said_to_be_missing(
    tmp_path: Path, name: str, message: str
) -> None:
    (tmp_path / name).write_text('model: {_target_: sam2.modeling.SAM2Base}')
    with pytest.raises(ValueError, match=message) as raised:
        load_model_config(tmp_path / name)
    assert 'there is no file' not in str(raised.value)
    assert str(tmp_path / name) in str(raised.value)


def test_config_without_a_model_is_refused() -> None:
    with pytest.raises(ValueError, match=r'default_runtime\.py has no `model`'):
        load_model_config('_base_/default_runtime.py')
