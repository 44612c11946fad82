"""Readers against what the released readers found in the same files."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mmengine.registry import DATASETS

from golden_cases import golden_dir
from golden_readers import assert_same_masks, golden_videos, unpack_golden_data
from projects.sam2.datasets import StridedVideoSource
from projects.sam2.datasets.reading import read_frame

pytestmark = [
    pytest.mark.golden,
    pytest.mark.skipif(
        not (golden_dir() / 'data_golden.json').is_file(),
        reason=f'no data_golden.json in {golden_dir()}; set SAM2_GOLDEN_DIR',
    ),
]
PALETTE = {'type': 'ClipPaletteDataset', 'data_root': 'pal'}
SAV = {
    'type': 'ClipSAVDataset',
    'data_root': 'sav',
    'frame_folder': 'frames',
    'annotation_folder': 'ann',
}
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


@pytest.fixture(scope='module')
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The synthetic files."""
    return unpack_golden_data(tmp_path_factory.mktemp('golden'))


def build(config: Mapping[str, Any], files: Path) -> Any:  # noqa: ANN401  any dataset
    """Build a source of the golden files."""
    return DATASETS.build({**config, 'data_root': str(files / config['data_root'])})


@pytest.mark.parametrize('case', CASES)
def test_objects_masks_and_skipped_frames_are_the_released_readers(
    files: Path, case: str
) -> None:
    dataset, expected = build(CASES[case], files), golden_videos(case)
    prefix = 'sa_' if case.startswith('sa1b') else ''
    names = [prefix + video.name for video in expected]
    assert sorted(dataset.list_videos()) == names
    for name, video in zip(names, expected, strict=True):
        source = dataset.open_video(name)
        # One frame of an image there may be several of the same here.
        frames = video.spec['frames'][:1] if prefix else video.spec['frames']
        stems = video.frame_names[: len(frames)]
        annotated = source.annotated_frames()
        assert [source.frame_name(i) for i in annotated] == stems
        for index, frame in zip(annotated, frames, strict=True):
            assert_same_masks(source, index, video.masks(frame))


@pytest.mark.parametrize(
    ('case', 'stride', 'longest'), [('pal_rate2', 2, 5), ('sav_rate', 8, 99)]
)
def test_sample_rate_takes_the_frames_of_the_released_reader(
    files: Path, case: str, stride: int, longest: int
) -> None:
    dataset = build(PALETTE if case == 'pal_rate2' else SAV, files)
    for video in golden_videos(case):
        strided = StridedVideoSource(
            source=dataset.open_video(video.name), stride=stride
        )
        # The released run had cut the videos to their first frames.
        frames = [i for i in strided.annotated_frames() if i * stride < longest]
        assert [strided.frame_name(i) for i in frames] == video.frame_names
        for index, frame in zip(frames, video.spec['frames'], strict=True):
            masks = strided.read_masks(index)
            expected = {k: m for k, m in video.masks(frame).items() if m.any()}
            assert masks is not None
            assert masks.object_ids == tuple(expected)
            for mask, wanted in zip(masks.masks, expected.values(), strict=True):
                np.testing.assert_array_equal(mask, wanted)


def test_all_frames_of_a_video_are_kept_and_some_are_not_annotated(files: Path) -> None:
    dataset = build(SAV, files)
    for video in golden_videos('sav_keep'):
        source = dataset.open_video(video.name)
        stems = [source.frame_name(i) for i in range(source.num_frames)]
        assert stems == video.frame_names
        damaged = [
            int(frame)
            for frame, masks in video.spec['segments'].items()
            if 'error' in masks or None in masks.values()
        ]
        every = range(source.num_frames)
        assert [i for i in every if source.read_masks(i) is None] == damaged


def test_objects_of_one_folder_alone_are_the_released_readers(files: Path) -> None:
    dataset = build(CASES['multi'], files)
    for video in golden_videos('multi_single'):
        name, folder = video.name.split('/')
        source = dataset.open_video(name)
        for index, frame in enumerate(video.spec['frames']):
            expected = video.masks(frame)
            assert tuple(expected) == (int(folder) + 1,)
            masks = source.read_objects(index, tuple(expected))
            np.testing.assert_array_equal(masks.masks[0], expected[int(folder) + 1])


def test_decoded_frames_are_the_released_ones(files: Path) -> None:
    spec = json.loads((golden_dir() / 'data_golden.json').read_text())['dp_none']
    arrays = np.load(golden_dir() / 'data_golden.npz')
    for position, objects in enumerate(spec['frames']):
        frame = objects[0]['frame_index']
        found = read_frame(files / 'pal' / 'JPEGImages' / 'vidA' / f'{frame:05d}.jpg')
        expected = arrays[f'dp_none/img{position}']
        assert np.abs(found.astype(int) - expected).max() <= 1
