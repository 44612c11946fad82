"""Builders find the config and the weights, or say what is wrong."""

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
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
from projects.sam2.apis import (
    SAM2AutomaticMaskGenerator,
    SAM2ImagePredictor,
    SAM2VideoPredictor,
    automatic_mask_generator,
    build_sam2,
    build_sam2_hf,
    build_sam2_video_predictor,
    build_sam2_video_predictor_hf,
    building,
    fitting_config,
    image_predictor,
    load_model_config,
    video_predictor,
)
from projects.sam2.apis.building import default_device, find_pretrained
from projects.sam2.checkpoints import (
    CheckpointKind,
    CheckpointMismatchError,
    map_to_released,
)
from projects.sam2.installation import CONFIGS

KINDS = [kind.value for kind in CheckpointKind]
TINY = '_base_/models/sam2_1_tiny.py'


@pytest.fixture
def config() -> Config:
    """Config of the small model."""
    return Config({'model': small_config()})


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A released file of the small model."""
    write_small(tmp_path / 'small.pt', CheckpointKind.RELEASED.value, small_model())
    return tmp_path / 'small.pt'


@pytest.mark.parametrize('kind', KINDS)
def test_build_loads_the_weights_of_each_kind_of_checkpoint(
    kind: str, tmp_path: Path
) -> None:
    expected = small_model()
    write_small(tmp_path / 'weights', kind, expected)
    model = build_sam2(config_file(tmp_path, small_config()), tmp_path / 'weights')
    assert_same_weights(dict(model.state_dict()), dict(expected.state_dict()))


def test_build_says_nothing(
    checkpoint: Path, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    records: list[logging.LogRecord] = []
    monkeypatch.setattr(MMLogger.get_current_instance(), 'handle', records.append)
    build_sam2(config, checkpoint)
    assert [record for record in records if record.levelno > logging.DEBUG] == []


def test_model_is_built_in_evaluation_mode_by_default(config: Config) -> None:
    assert not any(module.training for module in build_sam2(config).modules())
    assert build_sam2(config, mode='train').mask_decoder.training


def test_default_device_is_a_gpu_if_there_is_one(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    for available, device in ((True, 'cuda'), (False, 'cpu')):
        monkeypatch.setattr(torch.cuda, 'is_available', lambda value=available: value)
        assert default_device() == device
    assert next(build_sam2(config).parameters()).device.type == 'cpu'
    model = build_sam2(config, device='meta')
    assert {value.device.type for value in model.parameters()} == {'meta'}


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'device': 'gpu'}, "'gpu' is no device; give 'cpu'"),
        ({'device': 'cuda'}, 'There is no cuda: torch .* finds 0 GPUs; give another'),
        ({'device': 'cuda:1'}, 'There is no cuda:1: torch'),
        ({'mode': 'test'}, "mode is 'test'; give 'eval' or 'train'"),
        ({'image_size': (64, 100)}, 'give multiples of 32'),
        ({'image_size': (64,)}, r'image_size is \(64,\); give \(height, width\)'),
        ({'image_size': (64, 64.5)}, r'image_size is 64\.5 \(float\); give a whole'),
        ({'image_size': '64'}, r"image_size is '64' \(str\); give a whole"),
    ],
)
def test_wrong_option_is_named(
    options: dict[str, Any],
    message: str,
    config: Config,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 0)
    with pytest.raises(ValueError, match=message):
        build_sam2(config, **options)


def test_a_single_number_is_the_side_of_a_square(config: Config) -> None:
    model = build_sam2(config, device='cpu', image_size=96)  # type: ignore[arg-type]
    assert model.data_preprocessor.image_size == (96, 96)


@pytest.mark.parametrize('kind', KINDS)
def test_weights_of_another_version_stop_the_build(kind: str, tmp_path: Path) -> None:
    write_small(tmp_path / 'weights', kind, small_model())
    config = Config({'model': small_config('2.0')})
    with pytest.raises(CheckpointMismatchError) as raised:
        build_sam2(config, tmp_path / 'weights')
    assert str(raised.value).startswith(f'{tmp_path / "weights"} does not fit')
    assert 'holds SAM 2.1 of' in str(raised.value)


def test_file_without_weights_stops_the_build(config: Config, tmp_path: Path) -> None:
    torch.save({'net': {}}, tmp_path / 'x.pt')
    with pytest.raises(CheckpointMismatchError, match=r'x\.pt holds no weights'):
        build_sam2(config, tmp_path / 'x.pt')


# -------------------------------------------------------------- video predictors


def test_video_predictor_gets_weights_size_and_options(
    tmp_path: Path, checkpoint: Path
) -> None:
    config = config_file(tmp_path, small_config())
    predictor = build_sam2_video_predictor(config, checkpoint, image_size=(64, 96))
    assert_same_weights(
        dict(predictor.model.state_dict()), dict(small_model().state_dict())
    )
    assert predictor.model.data_preprocessor.image_size == (64, 96)
    assert predictor.fill_hole_area == 8
    assert predictor.device == torch.device(
        'cuda:0' if torch.cuda.is_available() else 'cpu'
    )


def test_video_predictor_is_built_from_positional_arguments(config: Config) -> None:
    overrides = ['++model.non_overlap_masks=true']
    predictor = build_sam2_video_predictor(
        config, None, 'cpu', 'train', overrides, False
    )
    assert predictor.model.mask_decoder.training
    assert predictor.non_overlap_masks
    assert predictor.fill_hole_area == 0


@pytest.mark.parametrize('applied', [True, False])
def test_postprocessing_fills_holes_and_selects_masks(
    config: Config, *, applied: bool
) -> None:
    predictor = build_sam2_video_predictor(config, apply_postprocessing=applied)
    assert predictor.fill_hole_area == (8 if applied else 0)
    assert predictor.model.mask_decoder.stability_selection is applied
    assert predictor.model.tracker.binary_clicked_memories is applied
    assert 'stability_selection' not in config.model.mask_decoder


def test_overrides_reach_the_model_and_the_predictor(config: Config) -> None:
    del config.model['data_preprocessor']
    overrides = [
        '++model.image_size=64',
        '++model.non_overlap_masks=true',
        '++model.fill_hole_area=2',
        '++model.max_cond_frames_in_attn=4',
        '++model.binarize_mask_from_pts_for_mem_enc=true',
    ]
    predictor = build_sam2_video_predictor(
        config, apply_postprocessing=False, hydra_overrides_extra=overrides
    )
    assert predictor.model.data_preprocessor.image_size == (64, 64)
    assert predictor.model.tracker.memory_bank.max_conditioning_frames == 4
    assert predictor.model.tracker.binary_clicked_memories  # wins over postprocessing
    assert not predictor.model.mask_decoder.stability_selection
    assert (predictor.fill_hole_area, predictor.non_overlap_masks) == (2, True)
    with pytest.raises(ValueError, match='fill_hole_area: of a video predictor'):
        build_sam2(config, hydra_overrides_extra=overrides)


def test_vos_optimized_compiles_the_regions(config: Config) -> None:
    def compiled(predictor: SAM2VideoPredictor) -> set[str]:
        return {
            name
            for name, module in predictor.model.named_modules()
            if module._compiled_call_impl is not None
        }

    assert not compiled(build_sam2_video_predictor(config))
    names = compiled(build_sam2_video_predictor(config, vos_optimized=True))
    assert names == compiled(build_sam2_video_predictor(config, compile=True))
    assert {
        'image_encoder.backbone.blocks.0',
        'tracker.memory_attention.layers.0',
        'tracker.memory_encoder',
        'prompt_encoder',
        'mask_decoder',
    } <= names


# ----------------------------------------------------------------------- configs


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
def test_released_name_finds_the_config_of_its_model(name: str, file: str) -> None:
    config = load_model_config(name)
    assert config.filename == str(CONFIGS / '_base_' / 'models' / f'{file}.py')


def test_config_is_read_from_a_path_or_passed_through(
    config: Config, tmp_path: Path
) -> None:
    path = tmp_path / 'own.py'
    path.write_text("model = dict(type='Own')")
    for given in (path, str(path)):
        assert load_model_config(given).model.type == 'Own'
    assert load_model_config('sam2_tiny_mose.py').model.type == 'SAM2'
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
def test_unknown_config_is_an_error_with_a_remedy(name: str) -> None:
    with pytest.raises(FileNotFoundError) as raised:
        load_model_config(name)
    assert str(raised.value).startswith(f'{name} is no config')
    assert str(raised.value).endswith('or a name like sam2.1_hiera_b+')


@pytest.mark.parametrize(
    ('name', 'message'),
    [
        ('own.yaml', r'is a YAML file.*hydra_overrides_extra=.*a config whose _base_'),
        ('own.YML', 'is a YAML file'),
        ('sam2.1_hiera_t512.yaml', 'is a YAML file'),
        ('own.pt', 'the config first and the checkpoint second'),
    ],
)
def test_existing_file_that_is_no_config_is_explained(
    tmp_path: Path, name: str, message: str
) -> None:
    (tmp_path / name).write_text('model: {_target_: sam2.modeling.SAM2Base}')
    with pytest.raises(ValueError, match=message) as raised:
        load_model_config(tmp_path / name)
    assert 'there is no file' not in str(raised.value)
    assert str(tmp_path / name) in str(raised.value)


def test_released_yaml_in_the_working_directory_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / 'sam2.1_hiera_t.yaml').write_text('model: 1')
    monkeypatch.chdir(tmp_path)
    assert load_model_config('sam2.1_hiera_t.yaml').model.type == 'SAM2'


def test_config_without_a_model_is_an_error() -> None:
    with pytest.raises(ValueError, match=r'default_runtime\.py has no `model`'):
        load_model_config('_base_/default_runtime.py')


# --------------------------------------------------------- configs that fit weights


@pytest.mark.parametrize('name', RELEASED_MODELS)
def test_released_weights_find_their_config(name: str) -> None:
    config = fitting_config(meta_model(name).state_dict(), source='x.pt')
    assert config.filename.endswith(name)


def _without_iou_token(state: dict[str, Tensor]) -> dict[str, Tensor]:
    del state['mask_decoder.iou_token.weight']
    return state


def _image_part(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: value for key, value in state.items() if 'tracker.' not in key}


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (_without_iou_token, '1 missing: mask_decoder.iou_token.weight'),
        (_image_part, 'the image part of SAM 2 of tiny, which no released config fits'),
        (lambda _: {'conv': torch.ones(1)}, 'no SAM 2, which no released config fits'),
    ],
)
def test_weights_that_no_config_fits_are_an_error(
    change: Callable[[dict[str, Tensor]], dict[str, Tensor]], message: str
) -> None:
    state = dict(meta_model(TINY).state_dict())
    with pytest.raises(CheckpointMismatchError, match=r'x\.pt') as raised:
        fitting_config(change(state), source='x.pt')
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ('model', 'shown'),
    [
        ({'type': 'BaseDataPreprocessor'}, "'BaseDataPreprocessor'"),
        ({'type': 'Nothing'}, "'Nothing'"),
        ({'depth': 50}, 'None'),
        (None, 'None'),
    ],
)
def test_config_of_another_model_is_named(
    model: dict[str, Any] | None, shown: str
) -> None:
    with pytest.raises(ValueError, match=f'a model of type SAM2 .* but got {shown}'):
        fitting_config({}, Config({'model': model}), source='x.pt')


def test_weights_of_a_custom_size_need_their_config(config: Config) -> None:
    state = small_model().state_dict()
    with pytest.raises(CheckpointMismatchError, match=r'give the config .*--config of'):
        fitting_config(state, source='x.pt')
    assert fitting_config(state, config, source='x.pt') is config
    assert config.model.loss is not None
    with pytest.raises(CheckpointMismatchError, match=r'x\.pt does not fit'):
        fitting_config(state, 'sam2.1_hiera_t', source='x.pt')


# ------------------------------------------------------------------ Hugging Face


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of Hugging Face, without a network."""
    hub: Any = pytest.importorskip('huggingface_hub')
    monkeypatch.setattr(hub.constants, 'HF_HUB_CACHE', str(tmp_path / 'hub'))
    monkeypatch.setattr(hub.constants, 'HF_HUB_OFFLINE', True)
    return tmp_path / 'hub'


def _cached(cache: Path, model_id: str) -> Path:
    """Create the folder of a model in the cache."""
    model, revision = cache / f'models--{model_id.replace("/", "--")}', '0' * 40
    snapshot = model / 'snapshots' / revision
    snapshot.mkdir(parents=True)
    (model / 'refs').mkdir()
    (model / 'refs' / 'main').write_text(revision)
    return snapshot


@pytest.mark.parametrize('inside', [True, False])
def test_released_file_or_its_folder_finds_the_config(
    *, inside: bool, tmp_path: Path
) -> None:
    shapes = {key: value.shape for key, value in meta_model(TINY).state_dict().items()}
    weights = {key: torch.zeros(()).expand(shape) for key, shape in shapes.items()}
    torch.save({'model': map_to_released(weights)}, tmp_path / 'any_name.pt')
    given = tmp_path if inside else tmp_path / 'any_name.pt'
    config, checkpoint = find_pretrained(str(given))
    assert isinstance(config, Config)
    assert config.filename.endswith(TINY)
    assert checkpoint == str(tmp_path / 'any_name.pt')


def test_folder_of_several_checkpoints_is_an_error(tmp_path: Path) -> None:
    (tmp_path / '._a.pt').touch()  # a file of macOS, no checkpoint
    for name in ('a.pt', 'b.pt'):
        (tmp_path / name).touch()
    with pytest.raises(ValueError, match=r'several checkpoints \(a\.pt, b\.pt\)'):
        find_pretrained(str(tmp_path))


def test_released_id_is_read_from_the_cache(hub_cache: Path) -> None:
    snapshot = _cached(hub_cache, 'facebook/sam2.1-hiera-base-plus')
    file = snapshot / 'sam2.1_hiera_base_plus.pt'
    file.touch()
    config, checkpoint = find_pretrained('facebook/sam2.1-hiera-base-plus')
    assert isinstance(config, Config)
    assert config.filename.endswith('sam2_1_bplus.py')
    assert checkpoint == str(file)


def test_other_id_means_a_folder_of_transformers(hub_cache: Path) -> None:
    folder = _cached(hub_cache, 'somebody/animals')
    write_small(folder / 'new', CheckpointKind.HUGGINGFACE.value, small_model())
    for file in (folder / 'new').iterdir():
        file.rename(folder / file.name)
    with pytest.raises(CheckpointMismatchError, match='no released config') as raised:
        find_pretrained('somebody/animals')
    assert str(raised.value).startswith(f'{folder} holds SAM 2.1')


@pytest.mark.usefixtures('hub_cache')
@pytest.mark.parametrize('model_id', ['facebook/sam2-hiera-tiny', 'some/one', 'a b'])
def test_missing_model_is_an_error_with_a_remedy(model_id: str) -> None:
    with pytest.raises(OSError, match='or fetch it by other means and give') as raised:
        find_pretrained(model_id)
    assert str(raised.value).startswith(f'{model_id} is no file or folder')


def test_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, 'huggingface_hub', None)
    with pytest.raises(ModuleNotFoundError, match='pip install huggingface_hub'):
        find_pretrained('facebook/sam2-hiera-tiny')


@pytest.mark.parametrize(
    ('builder', 'options'),
    [
        (build_sam2_hf, {}),
        (build_sam2_video_predictor_hf, {'vos_optimized': False}),
        (SAM2VideoPredictor.from_pretrained, {'apply_postprocessing': False}),
        (SAM2ImagePredictor.from_pretrained, {'max_hole_area': 5.0}),
        (SAM2AutomaticMaskGenerator.from_pretrained, {'points_per_side': 2}),
    ],
)
def test_each_builder_takes_an_id_of_hugging_face(
    builder: Any,
    options: dict[str, Any],
    config: Config,
    checkpoint: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known = {'some/one': (config, str(checkpoint))}
    for module in (
        building,
        automatic_mask_generator,
        image_predictor,
        video_predictor,
    ):
        monkeypatch.setattr(module, 'find_pretrained', known.__getitem__)
    built = builder('some/one', device='cpu', **options)
    model = built if builder is build_sam2_hf else built.model
    assert_same_weights(dict(model.state_dict()), dict(small_model().state_dict()))
    for name in {'max_hole_area', 'points_per_side'} & set(options):
        assert getattr(built, name) == options[name]
    with pytest.raises(TypeError, match='unexpected keyword'):
        builder('some/one', unknown=1)


def test_missing_checkpoint_is_noticed_before_the_model_is_built(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class NoModels:
        def build(self, config: object) -> None:
            pytest.fail(f'built {config}')

    monkeypatch.setattr(building, 'MODELS', NoModels())
    with pytest.raises(FileNotFoundError, match=r'sam3 does not exist.*accept their'):
        build_sam2('_base_/models/sam3_tracker.py', 'checkpoints/sam3')
