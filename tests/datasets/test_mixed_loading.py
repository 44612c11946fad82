"""Images and videos in one loader: the same clips with any number of workers."""

from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.runner import Runner
from torch.utils.data import DataLoader

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
