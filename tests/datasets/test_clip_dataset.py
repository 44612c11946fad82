"""Training clips: randomness, corrupt clips, wrappers, workers."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.dataset import (
    ClassBalancedDataset,
    ConcatDataset,
    RepeatDataset,
    pseudo_collate,
)
from PIL import Image
from torch.utils.data import DataLoader

from projects.sam2.datasets import ClipDataError, ClipPaletteDataset, ClipState
from projects.sam2.datasets.clip_dataset import MAX_RETRIES
from projects.sam2.datasets.io.errors import ClipDrawError
from projects.sam2.structures import ClipSample
from projects.sam2.structures.clip import EpochIndex, set_dataset_epoch

Build = Callable[..., ClipPaletteDataset]
Pipeline = list[dict[str, Any]]


def same(left: ClipSample, right: ClipSample) -> bool:
    """Are all fields and all meta information equal?"""
    if set(left.all_keys()) != set(right.all_keys()):
        return False
    fields = all(torch.equal(value, right.get(key)) for key, value in left.items())
    meta = all(value == right.get(key) for key, value in left.metainfo_items())
    return fields and meta


def break_frames(root: Path, name: str) -> None:
    """Cut all frames of a clip short."""
    for path in (root / 'JPEGImages' / name).iterdir():
        path.write_bytes(path.read_bytes()[:200])


@pytest.fixture
def dataset(root: Path, build: Build) -> ClipPaletteDataset:
    """Three good clips."""
    return build(root)


def test_item_is_a_sample_with_the_documented_fields(
    dataset: ClipPaletteDataset,
) -> None:
    sample = dataset[1]
    assert sample.frames.shape == (3, 3, 16, 16)
    assert sample.frames.dtype == torch.uint8
    assert sample.masklets.shape == (3, 2, 16, 16)
    assert sample.masklets.dtype == torch.bool
    assert sample.void.shape == (3, 16, 16)
    assert sample.annotated.tolist() == [True] * 3
    assert sorted(sample.object_ids.tolist()) == [1, 2]
    assert (sample.video_name, sample.sample_index) == ('bee', 1)
    assert sample.original_size == (24, 32)
    assert np.diff(sample.frame_indices).tolist() == [1, 1]


def test_item_depends_only_on_epoch_index_and_run_seed(
    root: Path, build: Build, dataset: ClipPaletteDataset
) -> None:
    other = build(root)
    other[0]  # earlier items do not matter
    assert same(dataset[2, 1], other[2, 1])
    assert same(dataset[2, 1], dataset[EpochIndex(1, epoch=2)])
    assert not same(dataset[2, 1], dataset[3, 1])
    assert not same(dataset[2, 1], dataset[EpochIndex(1, epoch=2, seed=1)])


def test_epoch_of_an_index_reaches_the_transforms(
    root: Path, build: Build, pipeline: Pipeline
) -> None:
    pipeline[0] = pipeline[0] | {'num_frames': 1, 'later_num_frames': ((4, 2),)}
    growing = build(root, pipeline=pipeline)
    lengths = [len(growing[epoch, 1].frame_indices) for epoch in (0, 3, 4, 9)]
    assert lengths == [1, 1, 2, 2]


def test_items_of_an_epoch_do_not_share_their_random_numbers(
    dataset: ClipPaletteDataset,
) -> None:
    seeds = {dataset[epoch, index].seed for epoch in range(4) for index in range(3)}
    assert len(seeds) == 12


@pytest.mark.parametrize('index', [3, -4])
def test_index_out_of_range_raises(dataset: ClipPaletteDataset, index: int) -> None:
    with pytest.raises(IndexError, match='3 clips'):
        dataset[index]


def test_plain_indices_follow_set_epoch(dataset: ClipPaletteDataset) -> None:
    dataset.set_epoch(5)
    assert same(dataset[1], dataset[5, 1])


def test_set_epoch_reaches_persistent_workers(dataset: ClipPaletteDataset) -> None:
    loader = DataLoader(
        dataset, num_workers=1, persistent_workers=True, collate_fn=pseudo_collate
    )
    for epoch in (0, 1):
        dataset.set_epoch(epoch)
        (first, *_) = list(loader)
        assert same(first[0], dataset[epoch, 0])


def test_clips_are_equal_with_and_without_workers(dataset: ClipPaletteDataset) -> None:
    indices = [EpochIndex(index, epoch=3) for index in (2, 0, 1)]
    loaded = []
    for num_workers in (0, 2):
        loader = DataLoader(
            dataset, sampler=indices, num_workers=num_workers, collate_fn=pseudo_collate
        )
        loaded.append([sample for batch in loader for sample in batch])
    assert all(same(a, b) for a, b in zip(*loaded, strict=True))


def test_pickled_dataset_is_small_and_gives_the_same_clips(
    dataset: ClipPaletteDataset,
) -> None:
    pickled = pickle.dumps(dataset)
    assert len(pickled) < 6000
    assert same(pickle.loads(pickled)[1, 2], dataset[1, 2])  # noqa: S301  made here


def test_names_and_categories_reach_mmengine(
    root: Path, dataset: ClipPaletteDataset
) -> None:
    assert dataset.get_data_info(2) == {'video_name': 'cat', 'sample_idx': 2}
    assert dataset.metainfo == {'classes': ('object',)}
    assert dataset.get_cat_ids(0) == [2]
    for path in (root / 'Annotations' / 'cat').iterdir():
        path.write_bytes(b'')
    assert dataset.get_cat_ids(2) == []


def test_concatenated_clips_keep_the_epoch(root: Path, build: Build) -> None:
    parts = [build(root), build(root)]
    both = ConcatDataset(parts)
    assert len(both) == 6
    sample = both[EpochIndex(4, epoch=2)]
    assert sample.video_name == 'bee'
    assert same(sample, parts[1][EpochIndex(1, epoch=2, position=4)])
    assert not same(sample, both[EpochIndex(4, epoch=3)])
    assert not same(sample, both[EpochIndex(1, epoch=2)])


def test_repetitions_of_a_clip_differ_and_keep_the_epoch(
    dataset: ClipPaletteDataset,
) -> None:
    twice = RepeatDataset(dataset, times=2)
    first, second = (twice[EpochIndex(i, epoch=1)] for i in (1, 4))
    assert first.video_name == second.video_name == 'bee'
    assert first.seed != second.seed
    assert same(first, dataset[1, 1])


def test_balanced_dataset_repeats_rare_numbers_of_objects(
    root: Path, build: Build
) -> None:
    for path in (root / 'Annotations' / 'ant').iterdir():
        (root / 'Annotations' / 'bee' / path.name).write_bytes(path.read_bytes())
    lone_object(root, 'cat')
    balanced = ClassBalancedDataset(build(root), oversample_thr=1.0)
    assert balanced.get_cat_ids(0) == [2]
    names = [balanced[i].video_name for i in range(len(balanced))]
    # Two of three clips have two objects, one has one: sqrt(3/2) and sqrt(3) times.
    assert names == ['ant', 'ant', 'bee', 'bee', 'cat', 'cat']


def test_balanced_dataset_follows_set_epoch(
    dataset: ClipPaletteDataset,
) -> None:
    wrapped = ClassBalancedDataset(dataset, oversample_thr=0.1)
    set_dataset_epoch(wrapped, 4)
    assert same(wrapped[EpochIndex(1, epoch=4)], dataset[4, 1])


def lone_object(root: Path, name: str) -> None:
    """Leave object 1 alone in the masks of a clip."""
    for path in (root / 'Annotations' / name).iterdir():
        labels = np.asarray(Image.open(path))
        image = Image.fromarray(np.where(labels == 1, 1, 0).astype(np.uint8))
        image.save(path)


def test_corrupt_clip_is_replaced_by_the_same_clip_everywhere(
    root: Path, build: Build
) -> None:
    break_frames(root, 'bee')
    dataset, other = build(root, max_bad_share=0.5), build(root, max_bad_share=0.5)
    replacement = dataset[1]
    assert replacement.video_name in {'ant', 'cat'}
    other[0]
    assert same(replacement, other[1])
    assert list(dataset.corrupt_clips.reasons) == ['bee']
    assert 'replace the file' in dataset.corrupt_clips.reasons['bee']
    replacements = {dataset[epoch, 1].video_name for epoch in range(20)}
    assert replacements == {'ant', 'cat'}


def test_corrupt_clip_is_tried_again_in_later_epochs(root: Path, build: Build) -> None:
    frames = root / 'JPEGImages' / 'bee' / '00000.jpg'
    whole = frames.read_bytes()
    frames.write_bytes(whole[:100])
    dataset = build(root, max_bad_share=0.5)
    names = {dataset[epoch, 1].video_name for epoch in range(12)}
    assert 'bee' in names  # only clips that begin at the damaged frame are skipped
    assert names > {'bee'}


def test_too_many_corrupt_clips_stop_the_run_and_are_named(
    root: Path, build: Build
) -> None:
    break_frames(root, 'bee')
    break_frames(root, 'cat')
    dataset = build(root, max_bad_share=0.4)
    with pytest.raises(ClipDataError, match=r'2 of . clips tried') as raised:
        [dataset[index] for index in range(3)]
    assert 'JPEGImages/bee/' in str(raised.value)
    assert 'JPEGImages/cat/' in str(raised.value)


def test_error_of_a_worker_keeps_its_message(root: Path, build: Build) -> None:
    break_frames(root, 'ant')
    dataset = build(root, max_bad_share=0.0)
    loader = DataLoader(dataset, sampler=[0], num_workers=1, collate_fn=pseudo_collate)
    batches = iter(loader)
    with pytest.raises(ClipDataError, match='JPEGImages/ant'):
        next(batches)
    batches._shutdown_workers()  # type: ignore[attr-defined]  # at once, not when collected


def test_dataset_of_corrupt_clips_raises_with_any_share(
    root: Path, build: Build
) -> None:
    for name in ('ant', 'bee', 'cat'):
        break_frames(root, name)
    with pytest.raises(ClipDataError, match='3 of 3 clips'):
        build(root, max_bad_share=1.0)[0]


def test_unlucky_clip_is_drawn_again_before_it_counts(
    root: Path, build: Build, pipeline: Pipeline
) -> None:
    for path in (root / 'Annotations' / 'bee').iterdir():
        labels = np.zeros((24, 32), np.uint8)
        labels[10, 10:12] = 1  # at 16 x 16, a shift loses it now and then
        Image.fromarray(labels).save(path)
    pipeline[4] = {'type': 'ClipRandomAffine', 'degrees': 0, 'translate': 0.1}
    dataset = build(root, pipeline=pipeline, max_bad_share=0.0)
    samples = [dataset[epoch, 1] for epoch in range(20)]
    assert {sample.video_name for sample in samples} == {'bee'}
    # In one pixel it is always lost: then it counts.
    pipeline[5] = {'type': 'ClipResize', 'size': (1, 1)}
    with pytest.raises(ClipDataError, match='bee: no object is left'):
        build(root, pipeline=pipeline, max_bad_share=0.0)[1]


class LoseDraws:
    """Transform that fails for the first draws of some clips, as random choices may."""

    def __init__(self, **num_failures: int) -> None:
        self.left = num_failures
        self.drawn: list[str] = []

    def __call__(self, state: ClipState) -> ClipState:
        """Fail, or pass the clip on."""
        name = state.source.name
        self.drawn.append(name)
        if self.left.get(name, 0):
            self.left[name] -= 1
            raise ClipDrawError.at(name, 'lost', 'draw again')
        return state


def test_replacing_clip_has_as_many_retries(root: Path, build: Build) -> None:
    num_draws = 1 + MAX_RETRIES
    dataset = build(root, max_bad_share=0.5)
    losing = LoseDraws(ant=num_draws, bee=MAX_RETRIES, cat=MAX_RETRIES)
    dataset.pipeline.transforms.insert(0, losing)
    other = dataset[0].video_name
    assert losing.drawn == ['ant'] * num_draws + [other] * num_draws
    assert list(dataset.corrupt_clips.reasons) == ['ant']


def test_clip_is_loaded_as_in_training_but_never_replaced(
    root: Path, build: Build, dataset: ClipPaletteDataset
) -> None:
    assert same(dataset.load_clip((2, 1)), dataset[2, 1])
    losing = LoseDraws(ant=MAX_RETRIES, bee=1 + MAX_RETRIES)
    dataset.pipeline.transforms.insert(0, losing)
    assert dataset.load_clip(0).video_name == 'ant'
    with pytest.raises(ClipDrawError, match='bee: lost'):
        dataset.load_clip(1)
    break_frames(root, 'cat')
    with pytest.raises(ClipDataError, match='JPEGImages/cat'):
        build(root, max_bad_share=1.0).load_clip(2)
    with pytest.raises(IndexError, match='3 clips'):
        dataset.load_clip(3)


def test_missing_data_root_is_an_error_with_a_remedy(
    tmp_path: Path, build: Build
) -> None:
    with pytest.raises(FileNotFoundError, match=r'nowhere.*--cfg-options data_root'):
        build(tmp_path / 'nowhere')
