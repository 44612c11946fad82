"""Label images, and the rules by which labels become objects."""

import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from data_folders import object_masks, write_image, write_label_images
from projects.sam2.datasets import ClipDataError, ClipLabelImageDataset
from projects.sam2.datasets.sources.label_images import (
    CLASS_FACTOR,
    MAX_REGIONS,
    LabelRule,
    label_boxes,
)


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


def test_label_image_of_16_bits_holds_more_than_255_objects(data_root: Path) -> None:
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


def test_folders_suffix_rule_and_lists_are_options(data_root: Path) -> None:
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


LABELS = np.array(
    [[0, 1, 1, 0, 1], [0, 1, 0, 0, 1], [2, 0, 0, 255, 255]], dtype=np.uint8
)


def numbers(rule: LabelRule, labels: np.ndarray = LABELS) -> list[int]:
    return [
        int(number)
        for number in np.unique(rule.object_map(labels, 'map.png'))
        if number
    ]


def test_each_label_but_background_and_void_is_an_object() -> None:
    assert numbers(LabelRule()) == [1, 2]
    assert numbers(LabelRule(min_pixels=2)) == [1]
    np.testing.assert_array_equal(
        LabelRule().object_map(LABELS, 'map.png') == 1, LABELS == 1
    )


def test_void_of_16_bits_has_to_be_set() -> None:
    wide = LABELS.astype(np.uint16)
    assert LabelRule().void_labels(wide) == ()
    assert numbers(LabelRule(), wide) == [1, 2, 255]
    assert numbers(LabelRule(void=(255,)), wide) == [1, 2]


def test_class_zero_may_be_an_object() -> None:
    rule = LabelRule.of({'background': [], 'void': [255]})
    assert numbers(rule) == [1, 2, 3]
    np.testing.assert_array_equal(rule.object_map(LABELS, 'map.png') == 1, LABELS == 0)


def test_each_region_of_a_label_is_an_object() -> None:
    rule = LabelRule(regions=True)
    assert numbers(rule) == [CLASS_FACTOR + 1, CLASS_FACTOR + 2, 2 * CLASS_FACTOR + 1]
    assert numbers(LabelRule(regions=True, min_pixels=3)) == [CLASS_FACTOR + 1]
    rule = LabelRule(regions=True, background=(), min_pixels=3)
    assert numbers(rule) == [CLASS_FACTOR + 1, 2 * CLASS_FACTOR + 1]  # labels 0 and 1


def test_regions_of_noise_are_found_quickly() -> None:
    rng = np.random.default_rng(3)
    noise = (rng.random((512, 1024)) < 0.2).astype(np.uint8)
    begin = time.process_time()
    regions = LabelRule(regions=True).object_map(noise, 'map.png')
    # A pass for each of the 40,000 regions would take minutes.
    assert time.process_time() - begin < 2
    found, numbers = cv2.connectedComponents(noise, connectivity=8)
    assert found > 20_000
    np.testing.assert_array_equal(
        regions, np.where(noise, numbers + np.int64(CLASS_FACTOR), 0)
    )


def specks() -> np.ndarray:
    """More regions of label 1 than 16 bits count, and a region of label 2."""
    labels = np.zeros((515, 515), np.uint8)
    labels[:514:2, :514:2] = 1
    labels[-1] = 2
    return labels


def test_regions_of_different_labels_have_different_ids() -> None:
    labels = specks()
    labels[::2, 0] = labels[1::2, 0] = 1  # a large region of label 1, the first
    labels[-3:-1, 500:] = 1  # and one with the highest number
    regions = LabelRule(regions=True, min_pixels=2).object_map(labels, 'map.png')
    ids = np.unique(regions[regions > 0])
    assert (ids // CLASS_FACTOR).tolist() == [1, 1, 2]
    assert ids[1] - CLASS_FACTOR > MAX_REGIONS


NOISE = np.random.default_rng(0).integers(1, 2**12, (256, 256), np.uint16)


@pytest.mark.parametrize(
    ('labels', 'reason'),
    [
        (specks(), 'has more than 65535 .* raise min_pixels'),
        (NOISE, 'has 4095 labels, each all over'),
    ],
)
def test_images_with_too_many_regions_are_refused(
    labels: np.ndarray, reason: str
) -> None:
    with pytest.raises(ClipDataError, match=rf'map\.png: {reason}'):
        LabelRule(regions=True).object_map(labels, 'map.png')


def test_boxes_enclose_the_pixels_of_each_label() -> None:
    boxes = label_boxes(LABELS, skipped={0})
    for label, (rows, columns) in boxes.items():
        y, x = np.nonzero(np.equal(LABELS, label))
        assert rows == slice(y.min(), y.max() + 1)
        assert columns == slice(x.min(), x.max() + 1)
    assert list(boxes) == [1, 2, 255]


def test_unknown_setting_is_refused() -> None:
    assert LabelRule.of(None) == LabelRule()
    with pytest.raises(ValueError, match='background, void, regions, min_pixels'):
        LabelRule.of({'voids': [1]})
