"""Labels that become objects."""

import numpy as np
import pytest

from projects.sam2.datasets.label_rules import CLASS_FACTOR, LabelRule

LABELS = np.array(
    [[0, 1, 1, 0, 1], [0, 1, 0, 0, 1], [2, 0, 0, 255, 255]], dtype=np.uint8
)


def numbers(rule: LabelRule, labels: np.ndarray = LABELS) -> list[int]:
    return [int(number) for number in np.unique(rule.object_map(labels)) if number]


def test_each_label_but_background_and_void_is_an_object() -> None:
    assert numbers(LabelRule()) == [1, 2]
    np.testing.assert_array_equal(LabelRule().object_map(LABELS) == 1, LABELS == 1)


def test_void_of_sixteen_bits_has_to_be_named() -> None:
    wide = LABELS.astype(np.uint16)
    assert LabelRule().void_labels(wide) == ()
    assert numbers(LabelRule(), wide) == [1, 2, 255]
    assert numbers(LabelRule(void=(255,)), wide) == [1, 2]


def test_class_zero_may_be_an_object() -> None:
    rule = LabelRule.of({'background': [], 'void': [255]})
    assert numbers(rule) == [1, 2, 3]
    np.testing.assert_array_equal(rule.object_map(LABELS) == 1, LABELS == 0)


def test_regions_of_a_label_are_objects_of_their_own() -> None:
    rule = LabelRule(regions=True)
    assert numbers(rule) == [CLASS_FACTOR + 1, CLASS_FACTOR + 2, 2 * CLASS_FACTOR + 1]
    assert numbers(LabelRule(regions=True, min_pixels=3)) == [CLASS_FACTOR + 1]


def test_small_objects_are_left_out() -> None:
    assert numbers(LabelRule(min_pixels=2)) == [1]


def test_unknown_setting_is_refused() -> None:
    assert LabelRule.of(None) == LabelRule()
    with pytest.raises(ValueError, match='background, void, regions, min_pixels'):
        LabelRule.of({'voids': [1]})
