"""Semantic and instance PNG."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_folders import object_masks, write_image, write_label_images
from projects.sam2.datasets import ClipDataError, ClipLabelImageDataset
from projects.sam2.datasets.io.frames import open_image
from projects.sam2.datasets.sources.label_images import unique_objects


@pytest.fixture
def data_root(tmp_path: Path) -> Path:
    """One image with two labels."""
    write_label_images(tmp_path)
    return tmp_path


def test_labels_are_objects_of_a_clip_of_one_frame(data_root: Path) -> None:
    dataset = ClipLabelImageDataset(data_root=str(data_root))
    assert dataset.list_videos() == ['ant']
    video = dataset.open_video('ant')
    masks = video.read_masks(0)
    assert masks is not None
    assert masks.object_ids == video.object_ids() == (1, 2)
    np.testing.assert_array_equal(masks.masks, object_masks(0))
    assert video.annotated_frames() == (0,)
    chosen = video.read_objects(0, (7, 2))
    assert chosen is not None
    assert chosen.masks.any(axis=(1, 2)).tolist() == [False, True]


def test_sixteen_bits_hold_more_than_255_objects(data_root: Path) -> None:
    labels = np.arange(768, dtype=np.uint16).reshape(24, 32)
    Image.fromarray(labels).save(data_root / 'labels' / 'ant.png')
    video = ClipLabelImageDataset(data_root=str(data_root)).open_video('ant')
    masks = video.read_masks(0)
    assert masks is not None
    assert masks.object_ids == tuple(range(1, 768))
    assert masks.void is None
    small = ClipLabelImageDataset(
        data_root=str(data_root), limits={'max_mask_bytes': 10_000}
    )
    with pytest.raises(ClipDataError, match='767 masks'):
        small.open_video('ant').read_masks(0)


def test_folders_suffix_rule_and_lists_can_be_chosen(data_root: Path) -> None:
    write_image(data_root / 'img' / 'town' / 'bee.png')
    labels = np.full((24, 32), 255, np.uint8)
    labels[:5], labels[10:, :4], labels[10:, 8:10] = 0, 3, 3
    (data_root / 'gt' / 'town').mkdir(parents=True)
    Image.fromarray(labels).save(data_root / 'gt' / 'town' / 'bee_ids.png')
    write_image(data_root / 'img' / 'other.png')
    (data_root / 'not.txt').write_text('other\n')
    dataset = ClipLabelImageDataset(
        data_root=str(data_root),
        image_folder='img',
        label_folder='gt',
        label_suffix='_ids.png',
        rule={'regions': True},
        exclude_list='not.txt',
    )
    assert dataset.list_videos() == ['town/bee']
    masks = dataset.open_video('town/bee').read_masks(0)
    assert masks is not None
    assert masks.masks.sum(axis=(1, 2)).tolist() == [56, 28]
    assert masks.void is not None
    assert masks.void.sum() == (labels == 255).sum()
    (data_root / 'list.txt').write_text('town/bee\n')
    listed = ClipLabelImageDataset(
        data_root=str(data_root),
        image_folder='img',
        label_folder='gt',
        label_suffix='_ids.png',
        file_list='list.txt',
        max_bad_share=0.0,
    )
    assert listed.list_videos() == ['town/bee']


def test_missing_image_missing_labels_and_wrong_size_are_named(data_root: Path) -> None:
    dataset = ClipLabelImageDataset(data_root=str(data_root))
    with pytest.raises(ClipDataError, match=r'labels/bee\.png'):
        dataset.open_video('bee')
    Image.new('L', (5, 4)).save(data_root / 'labels' / 'ant.png')
    with pytest.raises(ClipDataError, match=r'labels/ant\.png.*\(4, 5\)'):
        dataset.open_video('ant').read_masks(0)
    (data_root / 'images' / 'ant.jpg').unlink()
    with pytest.raises(ClipDataError, match=r'images/ant: is missing \(as \.jpg'):
        dataset.open_video('ant')


def test_image_of_any_ending_is_found(tmp_path: Path) -> None:
    write_image(tmp_path / 'a.bmp')
    write_image(tmp_path / 'b.JPG')
    assert open_image(tmp_path, 'a').read(0).shape == (24, 32, 3)
    assert open_image(tmp_path, 'b').files == ('b.JPG',)
    assert unique_objects(np.array([[3, 0, 1]])) == (1, 3)
