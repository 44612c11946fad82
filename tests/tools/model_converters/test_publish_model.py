"""The command that publishes a training checkpoint."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.hooks import EMAHook
from mmengine.model import ExponentialMovingAverage
from torch import Tensor

from bridge_models import (
    assert_same_weights,
    config_file,
    small_config,
    small_model,
)
from projects.sam2.checkpoints import CheckpointMismatchError, read_checkpoint
from tool_modules import load_tool

Weights = dict[str, Tensor]


@pytest.fixture(scope='module')
def trained() -> Weights:
    return dict(small_model().state_dict())


@pytest.fixture(scope='module')
def average() -> Weights:
    return dict(small_model(object_score=1.0).state_dict())


@pytest.fixture
def checkpoint(tmp_path: Path, trained: Weights, average: Weights) -> Path:
    """What MMEngine's own hook makes of a run's checkpoint."""
    hook = EMAHook()
    hook.ema_model = ExponentialMovingAverage(small_model())
    hook.ema_model.module.load_state_dict(average)
    content: dict[str, Any] = {'state_dict': dict(trained), 'meta': {'epoch': 3}}
    hook.before_save_checkpoint(None, content)
    content['optimizer'] = {'state': {0: torch.zeros(100_000)}}
    torch.save(content, tmp_path / 'epoch_3.pth')
    return tmp_path / 'epoch_3.pth'


def _publish(checkpoint: Path, target: Path, *rest: str) -> Path:
    config = config_file(checkpoint.parent, small_config())
    arguments = [str(checkpoint), str(target), '--config', config, *rest]
    written = load_tool('model_converters/publish_model').main(arguments)
    assert isinstance(written, Path)
    return written


def test_weights_alone_are_published(checkpoint: Path, tmp_path: Path) -> None:
    written = _publish(checkpoint, tmp_path / 'out' / 'sam2_mose.pth')
    assert torch.load(written, weights_only=True).keys() == {'state_dict'}
    assert list(written.parent.iterdir()) == [written]


@pytest.mark.parametrize(
    ('name', 'kind', 'pattern', 'file'),
    [
        ('sam2.1_mose.pth', 'mmsam2', 'sam2.1_mose-{}.pth', ''),
        ('sam2.1_mose.pt', 'released', 'sam2.1_mose-{}.pt', ''),
        ('sam2.1_mose', 'huggingface', 'sam2.1_mose-{}', 'model.safetensors'),
    ],
)
def test_name_contains_the_hash_of_the_written_file(
    checkpoint: Path, name: str, kind: str, pattern: str, file: str
) -> None:
    written = _publish(checkpoint, checkpoint.parent / name, '--to', kind)
    digest = hashlib.sha256((written / file).read_bytes()).hexdigest()
    assert written.name == pattern.format(digest[:8])


@pytest.mark.parametrize('which', [None, 'average', 'last'])
def test_average_is_published_unless_the_last_weights_are_requested(
    checkpoint: Path, trained: Weights, average: Weights, which: str | None
) -> None:
    rest = [] if which is None else ['--weights', which]
    written = _publish(checkpoint, checkpoint.parent / 'sam2.pth', *rest)
    wanted = trained if which == 'last' else average
    assert_same_weights(read_checkpoint(str(written))['state_dict'], wanted)


@pytest.mark.parametrize('which', [None, 'last'])
def test_run_without_average_publishes_its_trained_weights(
    tmp_path: Path, trained: Weights, which: str | None
) -> None:
    torch.save({'state_dict': trained}, tmp_path / 'epoch_1.pth')
    rest = [] if which is None else ['--weights', which]
    written = _publish(tmp_path / 'epoch_1.pth', tmp_path / 'sam2.pth', *rest)
    assert_same_weights(read_checkpoint(str(written))['state_dict'], trained)


def test_average_that_is_not_there_is_an_error(
    tmp_path: Path, trained: Weights
) -> None:
    torch.save({'state_dict': trained}, tmp_path / 'epoch_1.pth')
    with pytest.raises(ValueError, match=r'epoch_1\.pth holds no averaged weights'):
        _publish(
            tmp_path / 'epoch_1.pth', tmp_path / 'sam2.pth', '--weights', 'average'
        )


def test_publishing_twice_is_an_error_and_leaves_no_files(checkpoint: Path) -> None:
    target = checkpoint.parent / 'out' / 'sam2.pth'
    written = _publish(checkpoint, target)
    with pytest.raises(FileExistsError, match='published already'):
        _publish(checkpoint, target)
    assert list(target.parent.iterdir()) == [written]


def test_weights_that_do_not_fit_are_not_published(
    tmp_path: Path, trained: Weights
) -> None:
    lacking = {key: value for key, value in trained.items() if 'iou_token' not in key}
    torch.save({'state_dict': lacking}, tmp_path / 'epoch_1.pth')
    with pytest.raises(CheckpointMismatchError, match='1 missing'):
        _publish(tmp_path / 'epoch_1.pth', tmp_path / 'out' / 'sam2.pth')
    assert not (tmp_path / 'out').exists()
