"""The tool that checks a dataset."""

import json
import re
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest
from PIL import Image

from tool_modules import load_tool


@pytest.fixture(scope='module')
def tool() -> ModuleType:
    return load_tool('check_dataset')


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """One clip of two frames, the second without a mask."""
    for time in range(2):
        path = tmp_path / f'data/JPEGImages/ant/{time}.jpg'
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.full((8, 16, 3), 90, np.uint8))
    masks = tmp_path / 'data/Annotations/ant'
    masks.mkdir(parents=True)
    labels = np.zeros((8, 16), np.uint8)
    labels[:4, :4] = 1
    Image.fromarray(labels).save(masks / '0.png')
    file = tmp_path / 'config.py'
    file.write_text(
        "train_dataloader = dict(dataset=dict(type='RepeatDataset', times=3, dataset="
        f"dict(type='ClipPaletteDataset', data_root='{tmp_path}/data')))\n"
    )
    return file


def test_good_data_is_described(
    tool: ModuleType, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tool.main([str(config)]) == 0
    lines = [' '.join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines[1:] == [
        'clips 1 clips, 1 opened, 1 decoded, 0 bad',
        'frames 2 in all; 2 to 2 in a clip (median 2); 50.0% annotated',
        'sizes 16 x 8 (1)',
        'objects 1 in all; 1 to 1 in a clip (median 1); 0 appear late',
        'area 12.50% to 12.50% (median 12.50%) of the frame',
        'seen on 100.00% to 100.00% (median 100.00%) of the annotated frames',
        'No problems',
    ]


def test_bad_data_is_named_and_fails(
    tool: ModuleType, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = config.parent / 'data/JPEGImages/ant/1.jpg'
    bad.write_bytes(b'\xff\xd8 no picture')
    report = config.parent / 'reports' / 'report.json'
    assert tool.main([str(config), '--json', str(report)]) == 1
    assert f'! ant: {bad}' in capsys.readouterr().out
    found = json.loads(report.read_text())
    assert found['num_problems'] == 1
    (source,) = found['sources']
    assert source['problems'][0]['clip'] == 'ant'
    assert source['frames_per_clip'] == {'minimum': 2, 'median': 2, 'maximum': 2}


def test_sample_may_be_empty(
    tool: ModuleType, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tool.main([str(config), '--sample', '0']) == 0
    assert '1 opened, 0 decoded, 0 bad' in capsys.readouterr().out


def test_config_without_the_loader_is_refused(tool: ModuleType, config: Path) -> None:
    with pytest.raises(ValueError, match=r'neither val_dataloader\.dataset'):
        tool.main([str(config), '--loader', 'val'])


PALETTE = "dict(type='ClipPaletteDataset', data_root='data')"


@pytest.mark.parametrize(
    ('text', 'option', 'reason'),
    [
        (
            (
                f"train_dataloader = dict(dataset=dict(type='RepeatDataset', times=2, "
                f'dataset={PALETTE}))'
            ),
            'train_dataloader.dataset.void_label',
            (
                'void_label is no option of RepeatDataset (train_dataloader.dataset); '
                'set it in train_dataloader.dataset.dataset'
            ),
        ),
        (
            (
                f"train_dataloader = dict(dataset=dict(type='mmengine.ConcatDataset', "
                f'datasets=[{PALETTE}]))'
            ),
            'train_dataloader.dataset.exclude_list',
            (
                'exclude_list is no option of ConcatDataset '
                '(train_dataloader.dataset); set it in '
                'train_dataloader.dataset.datasets.0'
            ),
        ),
        (
            (
                f"val_dataloader = dict(dataset=dict(type='ClipVideoDataset', "
                f'dataset={PALETTE}))'
            ),
            'val_dataloader.dataset.dataset.frame_stride',
            (
                'frame_stride is no option of ClipPaletteDataset '
                '(val_dataloader.dataset.dataset); set it in val_dataloader.dataset'
            ),
        ),
        (
            f'train_dataloader = dict(dataset={PALETTE})',
            'train_dataloader.void_label',
            (
                'void_label is no option of DataLoader (train_dataloader); set it in '
                'train_dataloader.dataset'
            ),
        ),
        (
            f"dataset = dict(type='ClipStrideDataset', stride=2, dataset={PALETTE})",
            'dataset.strid',
            (
                'strid is no option of ClipStrideDataset (dataset); its options are '
                'dataset, max_bad_share, pipeline, stride'
            ),
        ),
    ],
)
@pytest.mark.parametrize('name', ['check_dataset', 'train'])
def test_option_of_another_part_is_refused_and_its_place_is_named(
    name: str, text: str, option: str, reason: str, tmp_path: Path
) -> None:
    config = tmp_path / 'config.py'
    config.write_text(f"custom_imports = dict(imports=['projects.sam2'])\n{text}\n")
    with pytest.raises(ValueError, match=f'^{re.escape(reason)}$'):
        load_tool(name).main([str(config), '--cfg-options', f'{option}=one'])


def test_clips_of_another_size_than_the_model_are_a_problem(
    tool: ModuleType, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    preprocessor = "dict(type='ClipDataPreprocessor', image_size=(64, 32))"
    pipeline = "[dict(type='ClipResize', size=(32, 32)), dict(type='ClipFit', size={})]"
    for size, code in (((64, 32), 0), ((64, 64), 1)):
        own = config.with_name('sized.py')
        own.write_text(
            f"_base_ = '{config}'\nmodel = dict(data_preprocessor={preprocessor})\n"
            f'train_pipeline = {pipeline.format(size)}\n'
            'train_dataloader = '
            'dict(dataset=dict(dataset=dict(pipeline=train_pipeline)))\n'
        )
        assert tool.main([str(own), '--sample', '0']) == code
        output = capsys.readouterr().out
        assert ('pipeline makes clips of 64 x 64, but' in output) == bool(code)
