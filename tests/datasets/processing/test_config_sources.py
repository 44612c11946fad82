"""Datasets found inside whatever wraps them in a config."""

from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config

from projects.sam2.datasets import ClipPaletteDataset
from projects.sam2.datasets.processing.config_sources import (
    dataset_config,
    find_clip_datasets,
    find_sources,
)

ROOT = Path(__file__).resolve().parents[3]
ANT = {'type': 'ClipPaletteDataset', 'data_root': 'ant'}
BEE = {'type': 'ClipSAVDataset', 'data_root': 'bee'}


@pytest.mark.parametrize(
    ('config', 'sources'),
    [
        (ANT, [ANT]),
        ({**ANT, 'pipeline': [{'type': 'ClipPack'}]}, [ANT]),
        ({'type': 'RepeatDataset', 'times': 2, 'dataset': ANT}, [ANT]),
        ({'type': 'ClipVideoDataset', 'dataset': BEE}, [BEE]),
        (
            {'type': 'ClipStrideDataset', 'dataset': {'type': 'X', 'dataset': ANT}},
            [ANT],
        ),
        ({'type': 'ConcatDataset', 'datasets': [ANT, BEE, ANT]}, [ANT, BEE]),
        ({'type': ClipPaletteDataset}, [{'type': ClipPaletteDataset}]),
        ({'type': 'mmengine.ClipSAVDataset'}, [{'type': 'mmengine.ClipSAVDataset'}]),
    ],
)
def test_innermost_dataset_that_lists_clips_is_the_source(
    config: dict[str, Any], sources: list[dict[str, Any]]
) -> None:
    assert find_sources(config) == sources


def test_outermost_dataset_with_a_pipeline_draws_the_clips() -> None:
    steps = [{'type': 'ClipPack'}]
    ant, view = {**ANT, 'pipeline': steps}, {'type': 'ClipStrideDataset', 'stride': 2}
    view = {**view, 'dataset': ANT, 'pipeline': steps}
    both = [{'type': 'RepeatDataset', 'times': 2, 'dataset': ant}, view, ant, BEE]
    assert find_clip_datasets({'type': 'ConcatDataset', 'datasets': both}) == [
        ant,
        view,
    ]
    assert find_clip_datasets({'type': 'ClipVideoDataset', 'dataset': BEE}) == []


def test_adapter_of_a_foreign_dataset_is_a_source_itself() -> None:
    foreign = {'type': 'mmdet.CocoDataset', 'ann_file': 'a.json'}
    path = 'projects.sam2.bridges.image_dataset.ClipBridgeDataset'
    config = {'type': path, 'dataset': foreign}
    assert find_sources(config) == [config]


def test_dataset_without_clips_is_refused() -> None:
    with pytest.raises(ValueError, match=r'mmdet\.CocoDataset lists no clips'):
        find_sources({'type': 'mmdet.CocoDataset'})


def test_misspelt_member_of_a_concatenation_is_refused() -> None:
    wrong = {'type': 'RepeatDataset', 'dataset': {**ANT, 'type': 'ClipPalletDataset'}}
    with pytest.raises(ValueError, match=r'RepeatDataset of ClipPalletDataset lists'):
        find_sources({'type': 'ConcatDataset', 'datasets': [wrong, BEE]})


@pytest.mark.parametrize('loader', ['train', 'val', 'test'])
def test_config_of_a_run_has_a_dataset_for_each_loader(loader: str) -> None:
    cfg = Config.fromfile(ROOT / 'configs' / '_base_' / 'datasets' / 'davis.py')
    (source,) = find_sources(dataset_config(cfg, loader))
    assert source['file_list'] == f'ImageSets/2017/{loader.replace("test", "val")}.txt'


@pytest.mark.parametrize('cfg', [{'dataset': ANT}, ANT])
def test_config_file_may_hold_only_a_dataset(cfg: dict[str, Any]) -> None:
    assert dataset_config(cfg, 'train') == ANT


def test_missing_loader_names_the_others() -> None:
    cfg = {'val_dataloader': {'dataset': ANT}, 'test_dataloader': None}
    with pytest.raises(ValueError, match=r'train_dataloader.*loaders: val_dataloader'):
        dataset_config(cfg, 'train')
