"""Parts are found by names with a scope, and in the scope of this package."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from mmengine import registry as root_registries
from mmengine.config import Config
from mmengine.registry import (
    HOOKS,
    MODELS,
    DefaultScope,
    Registry,
    init_default_scope,
)

from projects.sam2 import registry
from projects.sam2.bridges.mmcv_operators import ensure_operators
from projects.sam2.engine.config import load_config
from projects.sam2.models import SAM2
from projects.sam2.utils import register_all_modules
from tool_modules import ROOT, TOOLS

MINI = ROOT / 'configs' / 'sam2_mini_synthetic.py'


@pytest.mark.parametrize('scope', ['mmsam2', 'sam2'])
def test_parts_of_all_registries_are_found_by_both_scopes(scope: str) -> None:
    num_parts = 0
    for name, root in vars(root_registries).items():
        if isinstance(root, Registry):
            assert isinstance(getattr(registry, name), Registry), name
            for part, class_ in root.module_dict.items():
                if class_.__module__.startswith('projects.sam2'):
                    assert root.get(f'{scope}.{part}') is class_
                    num_parts += 1
    assert num_parts > 70


@pytest.mark.filterwarnings('ignore')  # of the other packages
@pytest.mark.parametrize('default', ['mmengine', 'mmdet', 'mmseg', 'mmsam2', 'sam2'])
def test_prefixed_model_is_built_in_any_default_scope(default: str) -> None:
    if default in {'mmdet', 'mmseg'}:
        pytest.importorskip(default)
        ensure_operators()
    cfg = load_config(str(MINI))
    with DefaultScope.overwrite_default_scope(default):
        assert type(MODELS.build({**cfg.model, 'type': 'mmsam2.SAM2'})) is SAM2
        assert HOOKS.get('sam2.ClipVisualizationHook') is not None


def test_model_with_prefixed_parts_is_built_in_our_scope() -> None:
    def prefixed(node: Any) -> Any:
        if isinstance(node, dict):
            changed = {key: prefixed(value) for key, value in node.items()}
            return changed | (
                {'type': f'mmsam2.{node["type"]}'} if 'type' in node else {}
            )
        return [prefixed(part) for part in node] if isinstance(node, list) else node

    model = prefixed(Config.fromfile(MINI).model.to_dict())
    assert model['mask_decoder']['type'] == 'mmsam2.SAM2MaskDecoder'
    init_default_scope('mmsam2')
    assert type(MODELS.build(model)) is SAM2


def test_image_size_and_unknown_options_are_handled_under_prefixed_names(
    tmp_path: Path,
) -> None:
    path = tmp_path / 'mine.py'
    path.write_text(
        f"_base_ = {str(MINI)!r}\ndefault_scope = 'mmsam2'\n"
        "model = dict(data_preprocessor=dict(type='mmsam2.ClipDataPreprocessor'))\n"
    )
    cfg = load_config(str(path), {'image_size': (64, 64)})
    assert cfg.model.data_preprocessor.image_size == (64, 64)
    options = {'train_dataloader.dataset.type': 'sam2.ClipPaletteDataset'}
    wrong = {**options, 'train_dataloader.dataset.frame_stride': 2}
    with pytest.raises(ValueError, match='frame_stride is no option'):
        load_config(str(path), wrong)


def test_own_registry_holds_names_that_the_root_does_not() -> None:
    name = 'NameOfTheScopesTest'
    try:
        registry.MODELS.register_module(name=name, module=SAM2)
        assert MODELS.get(f'mmsam2.{name}') is MODELS.get(f'sam2.{name}') is SAM2
        assert MODELS.get(name) is None
    finally:
        registry.MODELS._module_dict.pop(name, None)


def test_registering_all_modules_may_set_the_default_scope() -> None:
    register_all_modules(init_default_scope=False)
    assert DefaultScope.get_current_instance() is None
    register_all_modules()
    scope = DefaultScope.get_current_instance()
    assert scope is not None
    assert scope.scope_name == 'mmsam2'


def test_config_of_a_scope_that_is_not_there_gives_one_line(tmp_path: Path) -> None:
    path = tmp_path / 'other.py'
    path.write_text(
        f"_base_ = {str(MINI)!r}\nmodel = dict(type='mmpose.TopdownPoseEstimator')\n"
    )
    answer = subprocess.run(
        [sys.executable, TOOLS / 'test.py', path, 'none.pth', '--work-dir', tmp_path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 1
    (line,) = (
        line for line in answer.stderr.splitlines() if line.startswith('error: ')
    )
    assert 'mmpose.TopdownPoseEstimator' in line
    assert 'Traceback' not in answer.stderr
