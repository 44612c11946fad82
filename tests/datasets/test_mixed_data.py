"""Images and videos in one loader, and the published mixture of them."""

from collections import Counter
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from data_folders import write_sa1b, write_sav
from projects.sam2.engine.config import load_config
from projects.sam2.structures import ClipSample

# Fewer cores than workers are slow, not wrong.
pytestmark = pytest.mark.filterwarnings('ignore:This DataLoader will create')

Pipeline = list[dict[str, Any]]
WriteClip = Callable[..., None]


@pytest.fixture
def load(
    tmp_path: Path, pipeline: Pipeline, write_davis_clip: WriteClip
) -> Callable[..., DataLoader[Any]]:
    """Builds the Runner's loader of 4 images and 3 videos."""
    for name in ('ant', 'bee', 'cat'):
        write_davis_clip(tmp_path / 'videos', name)
    for name in ('elm', 'fir', 'oak', 'yew'):
        write_davis_clip(tmp_path / 'images', name, num_frames=1)

    def source(folder: str, num_frames: int) -> dict[str, Any]:
        first = {**pipeline[0], 'num_frames': num_frames}
        return {
            'type': 'ClipPaletteDataset',
            'data_root': str(tmp_path / folder),
            'pipeline': [first, *pipeline[1:]],
        }

    def build(num_workers: int, epoch: int = 0) -> DataLoader[Any]:
        loader = Runner.build_dataloader(
            {
                'batch_size': 1,
                'num_workers': num_workers,
                'persistent_workers': num_workers > 0,
                'sampler': {'type': 'ClipSampler'},
                'batch_sampler': {
                    'type': 'ClipMixBatchSampler',
                    'batch_sizes': (2, 1),
                    'repeats': (1.5, 2.0),
                    'weights': (0.4, 0.6),
                },
                'collate_fn': {'type': 'pseudo_collate'},
                'dataset': {
                    'type': 'ConcatDataset',
                    'datasets': [source('images', 1), source('videos', 3)],
                },
            },
            seed=3,
        )
        loader.batch_sampler.sampler.set_epoch(epoch)  # type: ignore[union-attr]
        return loader

    return build


def same(left: list[list[ClipSample]], right: list[list[ClipSample]]) -> bool:
    """Whether two lists of batches are bit-equal."""
    if [len(batch) for batch in left] != [len(batch) for batch in right]:
        return False
    pairs = zip(chain(*left), chain(*right), strict=True)
    return all(
        torch.equal(first.frames, second.frames)
        and torch.equal(first.masklets, second.masklets)
        and torch.equal(first.object_ids, second.object_ids)
        and first.metainfo == second.metainfo
        for first, second in pairs
    )


def test_batches_are_of_images_or_of_videos(
    load: Callable[..., DataLoader[Any]],
) -> None:
    batches = list(load(0))
    assert len(batches) == len(load(0)) == 3 + 6
    shapes = sorted((len(batch), batch[0].frames.shape[0]) for batch in batches)
    assert shapes == [(1, 3)] * 6 + [(2, 1)] * 3


@pytest.mark.parametrize('num_workers', [1, 4])
def test_workers_do_not_change_the_batches(
    load: Callable[..., DataLoader[Any]], num_workers: int
) -> None:
    alone, helped = load(0), load(num_workers)
    epochs = []
    for epoch in range(2):  # the second one with the same workers
        for loader in (alone, helped):
            loader.batch_sampler.sampler.set_epoch(epoch)  # type: ignore[union-attr]
        epochs.append(list(alone))
        assert same(epochs[-1], list(helped))
    assert not same(*epochs)


@pytest.mark.parametrize('num_workers', [0, 1, 4])
def test_resumed_epoch_continues_with_the_same_batches(
    load: Callable[..., DataLoader[Any]], num_workers: int
) -> None:
    whole = list(load(0, epoch=2))
    resumed = load(num_workers, epoch=2)
    resumed.batch_sampler.start_at(4)  # type: ignore[union-attr]
    assert same(list(resumed), whole[4:])


CONFIG = Path(__file__).resolve().parents[2] / 'configs' / 'sam2_bplus_sa1b_sav.py'


def test_recipe_loads_images_and_clips_from_one_data_root(tmp_path: Path) -> None:
    write_sa1b(tmp_path / 'SA-1B')
    write_sav(tmp_path / 'sav' / 'sav_train', every=1)
    cfg = load_config(str(CONFIG), {'data_root': str(tmp_path)})
    loader = cfg.train_dataloader
    loader.update(num_workers=0, persistent_workers=False)
    for part in loader.dataset.datasets:
        for step in part.pipeline:
            if step.type == 'ClipResize':
                step.size = (64, 64)
    loader.batch_sampler.num_phases = 1
    loader.batch_sampler.repeats = (8, 2)
    batches: list[list[ClipSample]] = list(Runner.build_dataloader(loader, seed=0))
    shapes = Counter((len(batch), batch[0].frames.shape[0]) for batch in batches)
    assert shapes == {(8, 1): 1, (1, 8): 2}
    clip = next(batch[0] for batch in batches if len(batch) == 1)
    assert clip.frames.shape[2:] == (64, 64)
    assert 1 <= clip.masklets.shape[1] <= 3


@pytest.mark.parametrize('loader', ['val_dataloader', 'test_dataloader'])
def test_validation_videos_are_below_the_same_root(loader: str) -> None:
    cfg = load_config(str(CONFIG), {'data_root': 'elsewhere'})
    source = cfg[loader].dataset.dataset
    assert source.data_root == 'elsewhere'
    assert source.file_list.startswith('sav/sav_val/')


def test_clips_have_manual_masklets_and_images_smaller_masks() -> None:
    images, videos = load_config(str(CONFIG)).train_dataloader.dataset.datasets
    assert tuple(videos.kinds) == ('manual',)
    assert images.max_area_share == 0.9


def test_parts_come_in_the_papers_proportion_of_batches() -> None:
    cfg = load_config(str(CONFIG))
    mixed = cfg.train_dataloader.batch_sampler
    num_clips = (11_185_362, 50_453)
    batches = [
        clips * repeat / size
        for clips, repeat, size in zip(
            num_clips, mixed.repeats, mixed.batch_sizes, strict=True
        )
    ]
    share = batches[0] / sum(batches)
    assert share == pytest.approx(15.2 / (15.2 + 70), abs=0.01)
    steps = sum(batches) / 256 / mixed.num_phases
    assert 900 < steps < 1100
