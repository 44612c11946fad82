"""Views of a source: every n-th frame, single objects."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data_folders import (
    object_masks,
    write_object_folders,
    write_sav,
    write_youtube_vis,
)
from projects.sam2.datasets import (
    ClipDataError,
    ClipOneObjectDataset,
    ClipPaletteDataset,
    ClipStrideDataset,
)


def test_stride_keeps_every_nth_frame(tmp_path: Path) -> None:
    write_sav(tmp_path)
    source = {'type': 'ClipSAVDataset', 'data_root': str(tmp_path)}
    dataset = ClipStrideDataset(dataset=source, stride=2, max_bad_share=0.5)
    assert dataset.list_videos() == ['ant']
    video = dataset.open_video('ant')
    assert (video.num_frames, video.annotated_frames()) == (6, (0, 2, 4))
    assert video.frame_name(2) == '00004'
    assert video.read_masks(1) is None
    with pytest.raises(ValueError, match='positive'):
        ClipStrideDataset(dataset=source, stride=0)


def test_each_object_is_a_clip(tmp_path: Path, pipeline: list[dict[str, Any]]) -> None:
    write_object_folders(tmp_path)
    source = {'type': 'ClipObjectFolderDataset', 'data_root': str(tmp_path)}
    dataset = ClipOneObjectDataset(dataset=source, pipeline=pipeline, max_bad_share=0.0)
    assert dataset.list_videos() == ['ant/1', 'ant/2']
    video = dataset.open_video('ant/2')
    assert (video.name, video.object_ids()) == ('ant/2', (2,))
    masks, whole = video.read_masks(4), dataset.videos.open_video('ant').read_masks(4)
    assert masks is not None
    assert whole is not None
    assert masks.object_ids == (2,)
    np.testing.assert_array_equal(masks.masks[0], whole.masks[1])
    assert dataset[1].object_ids.tolist() == [2]


def test_invisible_object_has_no_mask(tmp_path: Path) -> None:
    write_youtube_vis(tmp_path)
    source = {'type': 'ClipYouTubeVISDataset', 'data_root': str(tmp_path)}
    video = ClipOneObjectDataset(dataset=source).open_video('ant/5')
    hidden, empty = video.read_masks(0), video.read_objects(0, (5,))
    assert hidden is not None
    assert empty is not None
    assert (hidden.object_ids, empty.object_ids) == ((), (5,))
    assert video.annotated_frames() == tuple(range(12))


def test_palette_masks_are_decoded_for_their_objects(root: Path) -> None:
    source = {'type': 'ClipPaletteDataset', 'data_root': str(root)}
    names = ClipOneObjectDataset(dataset=source).list_videos()
    assert names == [f'{name}/{i}' for name in ('ant', 'bee', 'cat') for i in (1, 2)]
    with_void = ClipPaletteDataset(data_root=str(root), void_label=2)
    assert with_void.open_video('ant').object_ids() == (1,)


def test_corrupt_clips_of_the_source_are_counted_once(
    root: Path, pipeline: list[dict[str, Any]]
) -> None:
    shutil.rmtree(root / 'Annotations' / 'bee')
    for path in (root / 'Annotations' / 'cat').iterdir():
        Image.new('P', (32, 24)).save(path)
    source = {'type': 'ClipPaletteDataset', 'data_root': str(root)}
    dataset = ClipOneObjectDataset(dataset=source, pipeline=pipeline, max_bad_share=0.5)
    assert dataset.list_videos() == ['ant/1', 'ant/2', 'bee/', 'cat/']
    assert dataset[2].object_ids.tolist() in ([1], [2])
    assert dataset[3].object_ids.tolist() in ([1], [2])
    missing, empty = dataset.corrupt_clips.reasons.values()
    assert 'Annotations/bee: is missing; complete the data' in missing
    assert 'cat: showed no object' in empty
    strict = ClipOneObjectDataset(dataset=source, pipeline=pipeline, max_bad_share=0.0)
    with pytest.raises(ClipDataError, match='1 of 1 clips tried cannot be used'):
        strict[2]


def test_views_can_be_nested(tmp_path: Path, pipeline: list[dict[str, Any]]) -> None:
    write_youtube_vis(tmp_path)
    source = {'type': 'ClipYouTubeVISDataset', 'data_root': str(tmp_path)}
    strided = {'type': 'ClipStrideDataset', 'dataset': source, 'stride': 2}
    inside = ClipOneObjectDataset(dataset=strided, pipeline=pipeline)
    assert inside.list_videos() == ['ant/5', 'ant/6']
    single = {'type': 'ClipOneObjectDataset', 'dataset': source}
    outside = ClipStrideDataset(dataset=single, stride=2, pipeline=pipeline)
    assert outside.list_videos() == inside.list_videos()
    for dataset in (inside, outside):
        video = dataset.open_video('ant/5')
        assert video.num_frames == 6
        masks = video.read_masks(2)
        assert masks is not None
        np.testing.assert_array_equal(masks.masks, object_masks(4)[:1])
        assert dataset[0].object_ids.tolist() == [5]


def test_objects_of_generated_clips_are_clips(pipeline: list[dict[str, Any]]) -> None:
    source = {'type': 'ClipSyntheticDataset', 'num_clips': 2}
    dataset = ClipOneObjectDataset(dataset=source, pipeline=pipeline)
    assert len(dataset) > 2
    assert dataset[0].object_ids.numel() == 1
