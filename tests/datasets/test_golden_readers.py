"""Readers against what the released readers found in the same files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from mmengine.registry import DATASETS

from golden_cases import GoldenCase, assert_exact, assert_within, discover
from golden_readers import assert_same_masks, discover_readers, golden_videos
from projects.sam2.datasets import StridedVideoSource
from projects.sam2.datasets.io.images import read_frame

pytestmark = pytest.mark.golden
PALETTE = {'type': 'ClipPaletteDataset', 'data_root': 'pal'}
SAV = {
    'type': 'ClipSAVDataset',
    'data_root': 'sav',
    'frame_folder': 'frames',
    'annotation_folder': 'ann',
}
each_file = pytest.mark.parametrize('golden', discover('data_golden*'))
CASES: dict[str, dict[str, Any]] = {
    'pal': PALETTE,
    'pal_list': PALETTE | {'file_list': '../list.txt'},
    'pal_excl': PALETTE | {'exclude_list': '../excl.txt'},
    'multi': {
        'type': 'ClipObjectFolderDataset',
        'data_root': 'multi',
        'frame_folder': 'JPEGImages',
        'mask_folder': 'Annotations',
    },
    'sa1b': {'type': 'ClipSA1BDataset', 'data_root': 'sa1b', 'image_folder': 'img'},
    'sa1b_filt': {
        'type': 'ClipSA1BDataset',
        'data_root': 'sa1b',
        'image_folder': 'img',
        'min_scores': {'uncertain_iou': 0.7},
        'max_area_share': 0.9,
    },
    'sav': SAV,
}


def build(config: Mapping[str, Any], files: Path) -> Any:
    """Build a source of the golden files."""
    return DATASETS.build({**config, 'data_root': str(files / config['data_root'])})


@pytest.mark.parametrize(('golden', 'case'), discover_readers(CASES))
def test_objects_masks_and_skipped_frames_equal_those_of_the_released_reader(
    golden: GoldenCase, golden_files: Path, case: str
) -> None:
    dataset, expected = build(CASES[case], golden_files), golden_videos(golden, case)
    prefix = 'sa_' if case.startswith('sa1b') else ''
    names = [prefix + video.name for video in expected]
    assert_exact(sorted(dataset.list_videos()), names, 'videos')
    for name, video in zip(names, expected, strict=True):
        source = dataset.open_video(name)
        # One frame of an image there may be several of the same here.
        frames = video.spec['frames'][:1] if prefix else video.spec['frames']
        stems = video.frame_names[: len(frames)]
        annotated = source.annotated_frames()
        found = [source.frame_name(i) for i in annotated]
        assert_exact(found, stems, name)
        for index, frame in zip(annotated, frames, strict=True):
            assert_same_masks(source, index, video.masks(frame))


# Stride, and to how many frames the released run had cut the videos.
STRIDED = {'pal_rate2': (2, 5), 'sav_rate': (8, 99)}


@pytest.mark.parametrize(('golden', 'case'), discover_readers(STRIDED))
def test_sample_rate_takes_the_frames_of_the_released_reader(
    golden: GoldenCase, golden_files: Path, case: str
) -> None:
    stride, longest = STRIDED[case]
    dataset = build(PALETTE if case == 'pal_rate2' else SAV, golden_files)
    for video in golden_videos(golden, case):
        strided = StridedVideoSource(
            source=dataset.open_video(video.name), stride=stride
        )
        frames = [i for i in strided.annotated_frames() if i * stride < longest]
        found = [strided.frame_name(i) for i in frames]
        assert_exact(found, video.frame_names, video.name)
        for index, frame in zip(frames, video.spec['frames'], strict=True):
            masks = strided.read_masks(index)
            expected = {k: m for k, m in video.masks(frame).items() if m.any()}
            assert masks is not None
            assert_exact(masks.object_ids, tuple(expected), video.name)
            for mask, wanted in zip(masks.masks, expected.values(), strict=True):
                assert_exact(mask, wanted, video.name)


@each_file
def test_incomplete_frames_are_not_annotated_as_in_the_released_reader(
    golden: GoldenCase, golden_files: Path
) -> None:
    dataset = build(SAV, golden_files)
    for video in golden_videos(golden, 'sav_keep'):
        source = dataset.open_video(video.name)
        stems = [source.frame_name(i) for i in range(source.num_frames)]
        assert_exact(stems, video.frame_names, video.name)
        damaged = [
            int(frame)
            for frame, masks in video.spec['segments'].items()
            if 'error' in masks or None in masks.values()
        ]
        every = range(source.num_frames)
        unseen = [i for i in every if source.read_masks(i) is None]
        assert_exact(unseen, damaged, video.name)


@each_file
def test_single_objects_equal_those_of_the_released_reader(
    golden: GoldenCase, golden_files: Path
) -> None:
    dataset = build(CASES['multi'], golden_files)
    for video in golden_videos(golden, 'multi_single'):
        name, folder = video.name.split('/')
        source = dataset.open_video(name)
        for index, frame in enumerate(video.spec['frames']):
            expected = video.masks(frame)
            assert_exact(tuple(expected), (int(folder) + 1,), video.name)
            masks = source.read_objects(index, tuple(expected))
            assert_exact(masks.masks[0], expected[int(folder) + 1], video.name)


@each_file
def test_decoded_frames_equal_the_released_ones(
    golden: GoldenCase, golden_files: Path
) -> None:
    if 'dp_none' not in golden.spec:
        pytest.skip(f'{golden.name} holds no clip dp_none')
    spec = golden.spec['dp_none']
    paths = golden_videos(golden, 'pal')[spec['idx']].spec['paths']
    path_of = {int(Path(path).stem): golden_files / path for path in paths}
    for position, objects in enumerate(spec['frames']):
        found = read_frame(path_of[objects[0]['frame_index']])
        expected = golden.arrays[f'dp_none/img{position}']
        assert_within(found / 255, expected / 255, 1 / 255, f'image {position}')
