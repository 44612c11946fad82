"""Labels that become objects."""

import time

import cv2
import numpy as np
import pytest

from projects.sam2.datasets.io.errors import ClipDataError
from projects.sam2.datasets.sources.label_images import (
    CLASS_FACTOR,
    MAX_REGIONS,
    LabelRule,
    label_boxes,
)

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
    np.testing.assert_array_equal(
        LabelRule().object_map(LABELS, 'map.png') == 1, LABELS == 1
    )


def test_void_of_sixteen_bits_has_to_be_named() -> None:
    wide = LABELS.astype(np.uint16)
    assert LabelRule().void_labels(wide) == ()
    assert numbers(LabelRule(), wide) == [1, 2, 255]
    assert numbers(LabelRule(void=(255,)), wide) == [1, 2]


def test_class_zero_may_be_an_object() -> None:
    rule = LabelRule.of({'background': [], 'void': [255]})
    assert numbers(rule) == [1, 2, 3]
    np.testing.assert_array_equal(rule.object_map(LABELS, 'map.png') == 1, LABELS == 0)


def test_regions_of_a_label_are_objects_of_their_own() -> None:
    rule = LabelRule(regions=True)
    assert numbers(rule) == [CLASS_FACTOR + 1, CLASS_FACTOR + 2, 2 * CLASS_FACTOR + 1]
    assert numbers(LabelRule(regions=True, min_pixels=3)) == [CLASS_FACTOR + 1]


def test_regions_of_noise_are_found_in_one_pass_over_each_label() -> None:
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


def test_regions_of_one_label_never_run_into_the_ids_of_the_next() -> None:
    labels = specks()
    labels[::2, 0] = labels[1::2, 0] = 1  # a large region of label 1, the first
    labels[-3:-1, 500:] = 1  # and one with the highest number
    regions = LabelRule(regions=True, min_pixels=2).object_map(labels, 'map.png')
    ids = np.unique(regions[regions > 0])
    assert (ids // CLASS_FACTOR).tolist() == [1, 1, 2]
    assert ids[1] - CLASS_FACTOR > MAX_REGIONS


def test_more_regions_than_any_image_has_are_refused_with_the_file() -> None:
    with pytest.raises(
        ClipDataError, match=r'map\.png: has more than 65535 .* raise min'
    ):
        LabelRule(regions=True).object_map(specks(), 'map.png')


def test_labels_that_are_all_over_the_image_are_refused_with_the_file() -> None:
    noise = np.random.default_rng(0).integers(1, 2**12, (256, 256), np.uint16)
    with pytest.raises(
        ClipDataError, match=r'map\.png: has 4095 labels, each all over'
    ):
        LabelRule(regions=True).object_map(noise, 'map.png')


def test_label_is_searched_where_it_is() -> None:
    places = label_boxes(LABELS, skipped={0})
    for label, place in places.items():
        rows, columns = np.nonzero(np.equal(LABELS, label))
        assert place[0] == slice(rows.min(), rows.max() + 1)
        assert place[1] == slice(columns.min(), columns.max() + 1)
    assert list(places) == [1, 2, 255]


def test_small_objects_are_left_out() -> None:
    assert numbers(LabelRule(min_pixels=2)) == [1]


def test_unknown_setting_is_refused() -> None:
    assert LabelRule.of(None) == LabelRule()
    with pytest.raises(ValueError, match='background, void, regions, min_pixels'):
        LabelRule.of({'voids': [1]})
