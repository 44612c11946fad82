"""The check in a real Runner: it stops what MMEngine would only log."""

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from mmengine.hooks import EMAHook
from mmengine.model import MMDistributedDataParallel
from mmengine.registry import MODELS
from mmengine.runner import Runner
from torch import Tensor, nn

from bridge_models import (
    assert_same_weights,
    small_config,
    small_model,
    write_small,
)
from golden_models import tiny_config
from projects.sam2.checkpoints import (
    ADAPTER_FIELD,
    CheckpointMismatchError,
    is_adapter_key,
    map_to_released,
    to_plain_key,
)
from projects.sam2.engine.hooks.checkpoint_check_hook import SAM2CheckpointCheckHook


def _weight(runner: Runner) -> Tensor:
    return runner.model.get_parameter('layer.weight')


def _runner_of(model: nn.Module, tmp_path: Path, name: str) -> Runner:
    return Runner(
        model=model,
        work_dir=str(tmp_path),
        custom_hooks=[{'type': 'SAM2CheckpointCheckHook'}],
        default_scope='mmengine',
        log_level='ERROR',
        experiment_name=name,
    )


@pytest.fixture
def runner(tmp_path: Path, request: pytest.FixtureRequest) -> Runner:
    model = nn.Sequential(OrderedDict(layer=nn.Linear(2, 1)))
    return _runner_of(model, tmp_path, request.node.name)


def _saved(tmp_path: Path, **content: object) -> str:
    path = tmp_path / 'weights.pth'
    torch.save(content, path)
    return str(path)


def test_weights_that_fit_are_loaded(runner: Runner, tmp_path: Path) -> None:
    weights = {'layer.weight': torch.ones(1, 2), 'layer.bias': torch.zeros(1)}
    runner.load_checkpoint(_saved(tmp_path, state_dict=weights))
    assert torch.equal(_weight(runner), torch.ones(1, 2))


def test_weights_that_do_not_fit_stop_the_run_and_change_nothing(
    runner: Runner, tmp_path: Path
) -> None:
    before = _weight(runner).clone()
    path = _saved(tmp_path, state_dict={'layer.weight': torch.ones(1, 2)})
    with pytest.raises(CheckpointMismatchError) as raised:
        runner.load_checkpoint(path)
    assert str(raised.value).startswith(f'{path} does not fit')
    assert '1 missing: layer.bias' in str(raised.value)
    assert torch.equal(_weight(runner), before)


def test_file_without_weights_stops_the_run(runner: Runner, tmp_path: Path) -> None:
    with pytest.raises(CheckpointMismatchError, match=r"but \['net'\]"):
        runner.load_checkpoint(_saved(tmp_path, net={}))


def test_check_runs_before_ema_reads_the_weights(runner: Runner) -> None:
    runner.register_hook(EMAHook())
    kinds = [type(hook) for hook in runner.hooks]
    assert kinds.index(SAM2CheckpointCheckHook) < kinds.index(EMAHook)


def test_wrapped_model_is_checked_without_its_wrapper(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrapped = MMDistributedDataParallel.__new__(MMDistributedDataParallel)
    nn.Module.__init__(wrapped)
    wrapped.module = runner.model
    monkeypatch.setattr(runner, 'model', wrapped)
    SAM2CheckpointCheckHook().after_load_checkpoint(
        runner, {'state_dict': wrapped.module.state_dict()}
    )


def _small_sam2(**changes: Mapping[str, object]) -> nn.Module:
    model: nn.Module = MODELS.build(tiny_config(**changes) | {'loss': None})
    return model


def test_released_weights_are_loaded_unchanged(tmp_path: Path) -> None:
    torch.manual_seed(0)
    trained = _small_sam2().state_dict()
    path = _saved(tmp_path, model=map_to_released(trained))
    model = _small_sam2()
    _runner_of(model, tmp_path, 'released').load_checkpoint(path)
    for key, value in model.state_dict().items():
        assert torch.equal(value, trained[key]), key


def test_transformers_folder_is_loaded_unchanged(tmp_path: Path) -> None:
    trained = small_model()
    write_small(tmp_path / 'sam2', 'huggingface', trained)
    model: nn.Module = MODELS.build(small_config() | {'loss': None})
    runner = _runner_of(model, tmp_path, 'transformers')
    runner.load_checkpoint(str(tmp_path / 'sam2'))
    assert_same_weights(dict(model.state_dict()), dict(trained.state_dict()))


def test_released_weights_of_2_0_stop_a_run_of_2_1(tmp_path: Path) -> None:
    older = _small_sam2(
        tracker={'no_object_embedding': False},
        tracker__object_pointer={'time_encoding': 'none'},
    )
    path = _saved(tmp_path, model=map_to_released(older.state_dict()))
    runner = _runner_of(_small_sam2(), tmp_path, 'older')
    with pytest.raises(CheckpointMismatchError) as raised:
        runner.load_checkpoint(path)
    message = str(raised.value)
    assert 'The file holds SAM 2.0' in message
    assert '3 missing: tracker.no_object_embedding' in message


def test_adapters_are_loaded_on_top_of_plain_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip('peft')
    adapters = {'type': 'SAM2LowRankAdapters', 'layers': ['mask_decoder']}
    config = {**tiny_config(), 'loss': None, 'adaptations': [adapters]}
    model: nn.Module = MODELS.build(config)
    plain = _small_sam2().state_dict()
    earlier = {
        key: torch.full_like(value, 0.5)
        for key, value in model.state_dict().items()
        if is_adapter_key(key)
    }
    (tmp_path / 'earlier').mkdir()
    part = _saved(tmp_path / 'earlier', **{ADAPTER_FIELD: earlier})
    runner = _runner_of(model, tmp_path, 'adapted')
    (hook,) = [h for h in runner.hooks if isinstance(h, SAM2CheckpointCheckHook)]
    hook.adapters = part
    runner.load_checkpoint(_saved(tmp_path, state_dict=plain))
    loaded = model.state_dict()
    assert earlier
    for key, value in loaded.items():
        expected = earlier[key] if is_adapter_key(key) else plain[to_plain_key(key)]
        assert torch.equal(value, expected), key
    # What contains adapters already, as a checkpoint to resume from, keeps them.
    resumed = {key: value + 1 for key, value in loaded.items()}
    warning = Mock()
    monkeypatch.setattr(runner.logger, 'warning', warning)
    runner.load_checkpoint(_saved(tmp_path, state_dict=resumed))
    assert_same_weights(dict(model.state_dict()), resumed)
    assert 'contains adapters already' in warning.call_args.args[0]


def test_adapters_are_refused_for_a_model_without_adapters(
    tmp_path: Path,
) -> None:
    # Frozen parts, no adapters: a checkpoint to resume from looks like any other.
    model = _small_sam2()
    part = _saved(tmp_path, **{ADAPTER_FIELD: {}})
    runner = _runner_of(model, tmp_path, 'frozen')
    hook = SAM2CheckpointCheckHook(adapters=part)
    with pytest.raises(ValueError, match=r'convert_adapters\.py merge'):
        hook.after_load_checkpoint(runner, {'state_dict': model.state_dict()})
