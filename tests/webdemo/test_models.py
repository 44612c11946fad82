"""The models of the demo: which there are, and what happens when one is changed."""

from pathlib import Path

import numpy as np
import pytest
import torch

from projects.sam2.apis import SAM2VideoPredictor, build_sam2_video_predictor
from projects.sam2.checkpoints.released import FOLDER_VARIABLE
from projects.sam2.installation import WEIGHTS
from projects.sam2.webdemo.models import ModelChoice, ModelStore, given_model

MINI = '_base_/models/sam2_1_mini.py'
MINI_WEIGHTS = WEIGHTS / 'sam2_mini.pth'


@pytest.fixture(autouse=True)
def _no_other_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Find only the weights that a test puts there, and those of the package."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / 'shared'))
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'cache'))
    monkeypatch.setattr('torch.hub.get_dir', lambda: str(tmp_path / 'cache'))
    monkeypatch.setattr('projects.sam2.checkpoints.released.ROOT', tmp_path / 'root')
    (tmp_path / 'shared').mkdir()


def first_mask(predictor: SAM2VideoPredictor) -> torch.Tensor:
    rng = np.random.default_rng(0)
    state = predictor.init_state(rng.integers(0, 256, (2, 64, 80, 3), np.uint8))
    shown = predictor.add_new_points_or_box(state, 0, 1, box=[10, 10, 50, 40])
    return shown.mask_logits


def test_without_anything_else_the_model_of_the_package_runs() -> None:
    store = ModelStore(device='cpu')
    assert list(store.choices()) == ['sam2_mini']
    wanted = build_sam2_video_predictor(MINI, MINI_WEIGHTS, device='cpu')
    torch.testing.assert_close(
        first_mask(store.predictor), first_mask(wanted), rtol=0, atol=0
    )
    described = store.describe()
    assert described['name'] == 'sam2_mini'
    assert described['checkpoint'] == str(MINI_WEIGHTS)
    assert described['image_size'] == [128, 128]
    assert described['device'] == 'cpu'


def test_released_weights_and_the_quickstarts_come_first(tmp_path: Path) -> None:
    released = tmp_path / 'shared' / 'sam2.1_hiera_tiny.pt'
    released.write_bytes(b'no checkpoint')
    quickstart = tmp_path / 'work_dirs' / 'quickstart'
    quickstart.mkdir(parents=True)
    (quickstart / 'best_JF.pth').write_bytes(MINI_WEIGHTS.read_bytes())
    store = ModelStore(device='cpu')
    names = ['sam2.1_hiera_tiny', 'quickstart', 'sam2_mini']
    assert list(store.choices()) == names
    assert store.current.name == names[0]
    # What cannot be read is an error of this choice alone.
    with pytest.raises(ValueError, match=r'sam2\.1_hiera_tiny\.pt'):
        _ = store.predictor
    predictor = store.use('quickstart')
    assert store.predictor is predictor
    with pytest.raises(ValueError, match=r'sam2\.1_hiera_tiny\.pt'):
        store.use(names[0])
    assert store.current.name == 'quickstart'
    assert store.predictor is predictor
    assert store.use('quickstart') is predictor  # not built again


def test_a_model_that_does_not_exist_is_refused_and_the_choices_named() -> None:
    def find_run(name: str) -> ModelChoice:
        assert name == 'mine/epoch_1'
        return ModelChoice(name='run:mine/epoch_1', config=MINI, checkpoint=None)

    best = find_run('mine/epoch_1')
    store = ModelStore(device='cpu', find_run=find_run, list_runs=lambda: [best])
    assert list(store.choices()) == ['sam2_mini', 'run:mine/epoch_1']
    with pytest.raises(ValueError, match="no model 'big'; choose one of sam2_mini"):
        store.use('big')
    trained = store.use('run:mine/epoch_1')
    assert store.describe()['name'] == 'run:mine/epoch_1'
    assert store.use('run:mine/epoch_1') is trained
    assert store.use('sam2_mini') is not trained


def test_a_config_or_a_checkpoint_alone_is_completed(tmp_path: Path) -> None:
    assert given_model(None, None) is None
    random = given_model(MINI, None)
    assert random is not None
    assert (random.name, random.checkpoint) == ('sam2_1_mini', None)
    with pytest.raises(FileNotFoundError, match=r'Download it: .*sam2\.1_hiera_small'):
        given_model('sam2.1_hiera_s', None)
    released = tmp_path / 'shared' / 'sam2.1_hiera_small.pt'
    released.write_bytes(b'no checkpoint')
    named = given_model('sam2.1_hiera_s', None)
    assert named is not None
    assert named.checkpoint == released
    with pytest.raises(FileNotFoundError, match=r'mine\.pth'):
        given_model(MINI, 'mine.pth')
    with pytest.raises(ValueError, match=r'give the config'):
        given_model(None, str(MINI_WEIGHTS))


def test_weights_of_another_model_are_an_error_that_names_the_file() -> None:
    with pytest.raises(ValueError, match=r'sam2_mini\.pth'):
        _ = ModelStore(
            config='sam2_tiny_mose', checkpoint=str(MINI_WEIGHTS), device='cpu'
        ).predictor
    with pytest.raises(ValueError, match="'abacus' is no device"):
        ModelStore(device='abacus')
