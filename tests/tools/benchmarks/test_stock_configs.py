"""Running and shrinking configs of mmdetection and mmsegmentation."""

import json
import os
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from projects.sam2.datasets.sources.shapes import CLASSES
from tool_modules import load_tool

pytest.importorskip('mmdet')
pytestmark = pytest.mark.filterwarnings('ignore')  # of the other packages
PANOPTIC = 'mmdet::mask2former/mask2former_r50_8xb2-lsj-50e_coco-panoptic.py'
CITYSCAPES = 'mmseg::bisenetv2/bisenetv2_fcn_4xb4-160k_cityscapes-1024x1024.py'


@pytest.fixture(scope='module')
def tool() -> ModuleType:
    """The program that runs the configs."""
    return load_tool('benchmarks/stock_configs')


@pytest.fixture(scope='module')
def small() -> ModuleType:
    """The functions that shrink them."""
    return load_tool('benchmarks/small_configs')


def wait(*_: object) -> None:
    """Take longer than any time limit."""
    time.sleep(60)


def crash(*_: object) -> None:
    """End the process without a word."""
    os._exit(7)


def fail(*_: object) -> None:
    """Raise an error of two lines."""
    msg = 'no operator\nsecond line'
    raise NotImplementedError(msg)


@pytest.mark.parametrize(
    ('run', 'time_limit', 'problem'),
    [
        (wait, 1, 'takes longer than 1 s'),
        (crash, 60, 'the process ended with status 7'),
        (fail, 60, 'NotImplementedError: no operator ('),
    ],
)
def test_failure_of_a_config_is_an_outcome_with_the_reason(
    tool: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    run: Any,
    time_limit: int,
    problem: str,
) -> None:
    monkeypatch.setattr(tool, 'run_task', run)
    task = next(tool.stock_tasks())
    outcome = tool.run_in_child(task, tmp_path, tmp_path / 'work', time_limit)
    assert outcome.problem.startswith(problem)
    assert 'FAILED' in tool.describe(outcome)
    assert 'second line' not in tool.describe(outcome)


def test_what_ran_earlier_is_read_and_what_failed_is_not(
    tool: ModuleType, tmp_path: Path
) -> None:
    first, second = list(tool.stock_tasks())[:2]
    ran = tool._failed(first, '', 0.0)
    failed = tool._failed(second, 'an error', 0.0)
    path = tmp_path / 'outcomes.json'
    assert tool.read_outcomes(path) == []
    tool.write_outcomes(path, [ran, failed])
    assert json.loads(path.read_text())['environment']['mmdet']
    assert tool.read_outcomes(path) == [ran]


def test_panoptic_config_keeps_its_model_on_few_classes_and_small_images(
    small: ModuleType, tmp_path: Path
) -> None:
    module = 'projects.sam2.bridges.mmdet'
    cfg = small.small_config(PANOPTIC, module, tmp_path / 'data', tmp_path / 'work')
    backbone = cfg.model.backbone
    assert (backbone.type, backbone.depth, backbone.init_cfg) == ('ResNet', 50, None)
    head = cfg.model.panoptic_head
    assert (head.num_things_classes, head.num_stuff_classes) == (len(CLASSES), 1)
    assert head.loss_cls.class_weight == [1.0] * (len(CLASSES) + 1) + [0.1]
    (augmentation,) = cfg.model.data_preprocessor.batch_augments
    assert tuple(augmentation.size) == (96, 96)
    dataset = cfg.train_dataloader.dataset
    assert (dataset.type, dataset.indices) == ('CocoDataset', 6)
    assert dataset.pipeline[1].with_seg
    assert cfg.train_cfg.max_iters == cfg.train_cfg.val_interval == 3
    assert {metric.type for metric in cfg.val_evaluator} == {'CocoMetric'}
    assert cfg.custom_imports.imports == [module]


def test_segmenter_gets_a_class_more_where_the_background_is_one(
    small: ModuleType, tmp_path: Path
) -> None:
    module = 'projects.sam2.bridges.mmseg'
    cfg = small.small_config(CITYSCAPES, module, tmp_path / 'data', tmp_path / 'work')
    heads = [cfg.model.decode_head, *cfg.model.auxiliary_head]
    assert {head.num_classes for head in heads} == {len(CLASSES) + 1}
    dataset = cfg.train_dataloader.dataset
    assert dataset.metainfo.classes == ('background', *CLASSES)
    crop = next(each for each in dataset.pipeline if each.type == 'RandomCrop')
    assert tuple(crop.crop_size) == (96, 96) == tuple(cfg.model.data_preprocessor.size)
