"""Real clips in training and in validation (SAM2_DATA_DIR)."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS
from torch.utils.data import DataLoader

from projects.sam2.datasets import ClipPaletteDataset, ClipVideoDataset
from projects.sam2.structures import FrameMasks, VideoSource

DATA_DIR = os.environ.get('SAM2_DATA_DIR')
pytestmark = pytest.mark.skipif(
    DATA_DIR is None, reason='real clips are missing; set SAM2_DATA_DIR'
)
Build = Callable[..., ClipPaletteDataset]


@pytest.fixture
def mini_vos() -> Path:
    """Two objects, void, sparse masks, a late object."""
    return Path(str(DATA_DIR)) / 'mini_vos'


def read_masks(source: VideoSource, frame_index: int) -> FrameMasks:
    """Masks of a frame that must be annotated."""
    masks = source.read_masks(frame_index)
    assert masks is not None
    return masks


def find(dataset: ClipPaletteDataset, name: str) -> int:
    """Position of a clip."""
    names = [dataset.video_name(index) for index in range(len(dataset))]
    return names.index(name)


def test_all_clips_load(mini_vos: Path, build: Build) -> None:
    dataset = build(mini_vos, max_bad_share=0.0)
    loader = DataLoader(dataset, num_workers=1, collate_fn=pseudo_collate)
    assert [batch[0].video_name for batch in loader] == [
        'caps',
        'chair',
        'horsejump-high',
        'tennis',
    ]


def test_sparse_portrait_clip_takes_annotated_frames(
    mini_vos: Path, build: Build, pipeline: list[dict[str, Any]]
) -> None:
    pipeline[5]['size'] = (128, 128)
    dataset = build(mini_vos, pipeline=pipeline)
    index = find(dataset, 'caps')
    samples = [dataset[epoch, index] for epoch in range(8)]
    assert {sample.original_size for sample in samples} == {(853, 480)}
    frames = {sample.frame_indices for sample in samples}
    assert frames == {(0, 14, 33), (14, 33, 43), (33, 43, 66)}
    for sample in samples:
        assert sample.annotated.all()
        # Object 2 appears on frame 33: only clips that begin there can have it.
        assert (2 in sample.object_ids) == (sample.frame_indices[0] == 33)


def test_void_is_not_an_object(mini_vos: Path, build: Build) -> None:
    pipeline = [
        {
            'type': 'ClipSampleFrames',
            'num_frames': 35,
            'max_num_objects': 9,
            'frame_gaps': (2,),
        },
        {'type': 'ClipLoadFrames'},
        {'type': 'ClipLoadMasklets'},
        {'type': 'ClipWarp'},
        {'type': 'ClipPack'},
    ]
    dataset = build(mini_vos, pipeline=pipeline)
    index = find(dataset, 'tennis')
    sample = dataset[index]
    assert sorted(sample.object_ids.tolist()) == [1, 2]
    assert sample.void.any()
    assert not (sample.masklets & sample.void[:, None]).any()


def test_videos_of_validation_read_sparse_masks_and_void(mini_vos: Path) -> None:
    source: dict[str, Any] = {'type': 'ClipPaletteDataset', 'data_root': str(mini_vos)}
    dataset = ClipVideoDataset(dataset=source)
    assert dataset.video_lengths == [87, 60, 50, 70]
    caps, tennis = dataset[0].source, dataset[3].source
    assert caps.annotated_frames() == (0, 14, 33, 43, 66)
    assert caps.read_masks(1) is None
    assert [read_masks(caps, i).object_ids for i in (0, 33)] == [(1,), (1, 2)]
    voids = [read_masks(tennis, i) for i in tennis.annotated_frames()]
    assert sum(masks.void is not None for masks in voids) == 13
    for masks in voids:
        assert set(masks.object_ids) <= {1, 2}
        assert masks.void is None or not (masks.masks & masks.void).any()


def test_davis_clips_load_by_the_config_of_small_models(build: Build) -> None:
    root = Path(str(DATA_DIR)) / 'davis16_240p'
    configs = Path(__file__).resolve().parents[2] / 'configs' / '_base_' / 'datasets'
    cfg = Config.fromfile(configs / 'davis_mini.py')
    train = cfg.train_dataloader.dataset.to_dict()
    train['dataset']['data_root'] = str(root)
    clips = DATASETS.build(train)
    assert len(clips) == 8 * 27
    for index in (0, 40, 215):
        sample = clips[index]
        assert sample.frames.shape == (4, 3, 128, 128)
        assert sample.frames.dtype == torch.uint8
        assert sample.masklets[0].any()
    videos = cfg.val_dataloader.dataset.to_dict()
    videos['dataset']['data_root'] = str(root)
    whole = build(root, file_list='ImageSets/val.txt')
    expected = [
        -(-whole.open_video(whole.video_name(i)).num_frames // 3) for i in range(5)
    ]
    record = DATASETS.build(videos)
    assert record.video_lengths == expected
    assert np.any(record[0].source.read_masks(0).masks)
