"""Whole videos for validation."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mmengine.dataset import ConcatDataset, RepeatDataset, pseudo_collate
from PIL import Image
from torch.utils.data import DataLoader

from projects.sam2.datasets import ClipDataError, ClipVideoDataset
from projects.sam2.structures import FrameMasks, VideoRecord, VideoSource
from projects.sam2.structures.clip import EpochIndex

Open = Callable[..., ClipVideoDataset]


def read_masks(source: VideoSource, frame_index: int) -> FrameMasks:
    """Masks of a frame that must be annotated."""
    masks = source.read_masks(frame_index)
    assert masks is not None
    return masks


@pytest.fixture
def open_videos(root: Path) -> Open:
    """Builds the validation dataset of the three clips."""

    def build(**settings: Any) -> ClipVideoDataset:
        source = {'type': 'ClipPaletteDataset', 'data_root': str(root)}
        return ClipVideoDataset(dataset=source, **settings)

    return build


def test_record_reads_its_video_on_demand(root: Path, open_videos: Open) -> None:
    record = open_videos()[1]
    assert isinstance(record, VideoRecord)
    assert isinstance(record.source, VideoSource)
    assert (record.source.name, record.sample_index) == ('bee', 1)
    frame = record.source.read_frame(3)
    (root / 'JPEGImages' / 'bee' / '00003.jpg').unlink()
    assert frame.shape == (24, 32, 3)
    with pytest.raises(ClipDataError, match=r'bee/00003\.jpg'):
        record.source.read_frame(3)


def test_records_are_small_and_reach_workers(open_videos: Open) -> None:
    dataset = open_videos()
    assert len(pickle.dumps(dataset[0])) < 2000
    loader = DataLoader(dataset, num_workers=1, collate_fn=pseudo_collate)
    names = [record.source.name for batch in loader for record in batch]
    assert names == ['ant', 'bee', 'cat']


def test_videos_of_several_datasets_have_different_positions(
    open_videos: Open,
) -> None:
    # A metric counts each position once: videos that shared one would be dropped.
    joined = ConcatDataset([open_videos(), open_videos(frame_stride=2)])
    records = [joined[EpochIndex(index, epoch=0)] for index in range(6)]
    assert [record.sample_index for record in records] == list(range(6))
    assert [record.source.name for record in records] == ['ant', 'bee', 'cat'] * 2


def test_stride_takes_every_nth_frame_with_its_mask(
    root: Path, open_videos: Open
) -> None:
    (root / 'Annotations' / 'ant' / '00002.png').unlink()
    whole, strided = (open_videos(frame_stride=n)[0].source for n in (1, 2))
    assert strided.name == 'ant'
    assert (whole.num_frames, strided.num_frames) == (6, 3)
    assert strided.frame_name(2) == '00004'
    assert strided.annotated_frames() == (0, 2)
    assert strided.read_masks(1) is None
    np.testing.assert_array_equal(strided.read_frame(2), whole.read_frame(4))
    np.testing.assert_array_equal(
        read_masks(strided, 2).masks, read_masks(whole, 4).masks
    )


def test_lengths_are_known_without_decoding(root: Path, open_videos: Open) -> None:
    for path in root.glob('*/*/00005.*'):
        if path.parent.name == 'bee':
            path.unlink()
    assert open_videos().video_lengths == [6, 5, 6]
    assert open_videos(frame_stride=4).video_lengths == [2, 2, 2]
    assert open_videos().get_cat_ids(1) == [2]


def test_stride_must_be_positive(open_videos: Open) -> None:
    with pytest.raises(ValueError, match='frame_stride is 0; give a positive'):
        open_videos(frame_stride=0)


def test_video_that_is_listed_twice_is_refused(root: Path) -> None:
    (root / 'val.txt').write_text('bee\nant\nbee\n')
    source = {
        'type': 'ClipPaletteDataset',
        'data_root': str(root),
        'file_list': 'val.txt',
    }
    with pytest.raises(ValueError, match='1 videos are listed more than once, bee'):
        ClipVideoDataset(dataset=source)


def test_missing_video_raises_when_built(root: Path, open_videos: Open) -> None:
    for path in (root / 'Annotations' / 'bee').iterdir():
        path.unlink()
    with pytest.raises(ClipDataError, match='Annotations/bee'):
        open_videos()


def test_mask_of_another_size_raises_when_read(root: Path, open_videos: Open) -> None:
    frame = root / 'JPEGImages' / 'ant' / '00000.jpg'
    mask = root / 'Annotations' / 'ant' / '00000.png'
    mask.write_bytes((root / 'Annotations' / 'bee' / '00001.png').read_bytes())
    source = open_videos()[0].source
    assert source.read_masks(0) is not None  # the size counts, not the origin
    Image.new('RGB', (40, 30)).save(frame)
    with pytest.raises(ClipDataError, match=r'ant/00000\.png.*\(30, 40\)'):
        source.read_masks(0)


def test_mmengine_wrappers_accept_it(open_videos: Open) -> None:
    repeated = RepeatDataset(open_videos(), times=2)
    assert [repeated[i].sample_index for i in range(6)] == [0, 1, 2, 0, 1, 2]
