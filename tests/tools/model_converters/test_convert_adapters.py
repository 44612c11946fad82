"""What a run trained is saved apart, and merged into a plain checkpoint."""

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from mmengine.registry import MODELS
from torch import Tensor

from bridge_models import assert_same_weights, config_file, small_config, small_model
from projects.sam2.apis import build_sam2
from projects.sam2.checkpoints import (
    ADAPTER_FIELD,
    CheckpointMismatchError,
    fit_adapters,
    is_adapter_key,
)
from projects.sam2.models.adaptation import merged_weights
from tool_modules import load_tool

ADAPTATIONS = [
    {'type': 'SAM2Freezing', 'parts': ['*'], 'but': ['mask_decoder.iou_head']},
    {'type': 'SAM2LowRankAdapters', 'layers': ['mask_decoder.transformer'], 'rank': 2},
]


@pytest.fixture
def tool() -> ModuleType:
    pytest.importorskip('peft')
    return load_tool('model_converters/convert_adapters')


@pytest.fixture
def config(tmp_path: Path) -> str:
    settings: dict[str, Any] = {**small_config(), 'adaptations': ADAPTATIONS}
    return config_file(tmp_path, settings)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """A plain checkpoint, that of a run from it, and what is to come of it."""
    plain = small_model().state_dict()
    torch.save({'state_dict': plain}, tmp_path / 'plain.pth')
    model = MODELS.build({**small_config(), 'adaptations': ADAPTATIONS})
    model.load_state_dict(fit_adapters(plain, model.state_dict()))
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.1
    torch.save({'state_dict': model.state_dict(), 'meta': {}}, tmp_path / 'run.pth')
    torch.save(merged_weights(model), tmp_path / 'expected.pth')
    return {name: str(tmp_path / f'{name}.pth') for name in ('plain', 'run')}


def _weights(path: Path, field: str = 'state_dict') -> dict[str, Tensor]:
    content: dict[str, dict[str, Tensor]] = torch.load(path, weights_only=True)
    assert content.keys() == {field}
    return content[field]


def test_saved_and_merged_adapters_give_the_results_of_the_run(
    tool: ModuleType, config: str, files: dict[str, str], tmp_path: Path
) -> None:
    part, one, two = (tmp_path / f'{name}.pth' for name in ('part', 'one', 'two'))
    tool.main(['save', config, files['run'], str(part)])
    saved = _weights(part, ADAPTER_FIELD)
    heads = [name for name in saved if not is_adapter_key(name)]
    assert 0 < len(heads) < len(saved)
    assert all(name.startswith('mask_decoder.iou_head.') for name in heads)
    assert part.stat().st_size < 0.2 * Path(files['run']).stat().st_size
    tool.main(['merge', config, files['run'], str(one)])
    tool.main(['merge', config, str(part), str(two), '--base', files['plain']])
    expected = torch.load(tmp_path / 'expected.pth', weights_only=True)
    assert_same_weights(_weights(one), expected)
    assert_same_weights(_weights(two), expected)
    # It is a checkpoint of a plain model.
    (tmp_path / 'plain').mkdir()
    plain = config_file(tmp_path / 'plain', small_config())
    model = build_sam2(plain, one, device='cpu')
    assert_same_weights(dict(model.state_dict()), expected)


def test_plain_model_names_the_way_to_merge(
    tool: ModuleType, files: dict[str, str], tmp_path: Path
) -> None:
    del tool  # here only to be installed
    plain = config_file(tmp_path, small_config())
    with pytest.raises(CheckpointMismatchError, match=r'convert_adapters\.py merge'):
        build_sam2(plain, files['run'], device='cpu')


def test_written_file_is_never_replaced(
    tool: ModuleType, config: str, files: dict[str, str]
) -> None:
    with pytest.raises(FileExistsError, match='remove it'):
        tool.main(['save', config, files['run'], files['plain']])
