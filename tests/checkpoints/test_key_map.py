"""The key map against the keys of the released models."""

import pytest

from golden_cases import GoldenCase, discover
from projects.sam2.checkpoints.key_map import (
    KEY_TABLE,
    UnknownKeyError,
    from_released,
    map_from_released,
    map_to_released,
    to_released,
)


@pytest.mark.golden
@pytest.mark.parametrize('case', discover('manifest_*'))
def test_every_released_key_has_one_name_of_ours_and_comes_back(
    case: GoldenCase,
) -> None:
    released = case.spec['state_dict']
    ours = map_from_released(released)
    assert len(ours) == len(released)
    assert map_to_released(ours) == released


@pytest.mark.parametrize(
    ('ours', 'released'),
    [
        (
            'image_encoder.backbone.blocks.21.attention.output.weight',
            'image_encoder.trunk.blocks.21.attn.proj.weight',
        ),
        (
            'image_encoder.backbone.blocks.5.shortcut.bias',
            'image_encoder.trunk.blocks.5.proj.bias',
        ),
        (
            'tracker.memory_attention.layers.3.cross_attention.key.weight',
            'memory_attention.layers.3.cross_attn_image.k_proj.weight',
        ),
        (
            'tracker.memory_attention.layers.0.mlp.layers.1.bias',
            'memory_attention.layers.0.linear2.bias',
        ),
        ('tracker.memory_encoder.fuser.1.scale', 'memory_encoder.fuser.layers.1.gamma'),
        ('tracker.object_pointer.no_object_pointer', 'no_obj_ptr'),
        (
            'mask_decoder.high_res_projections.0.weight',
            'sam_mask_decoder.conv_s0.weight',
        ),
        (
            'mask_decoder.hypernetworks.2.layers.1.weight',
            'sam_mask_decoder.output_hypernetworks_mlps.2.layers.1.weight',
        ),
    ],
)
def test_names_pair_as_documented(ours: str, released: str) -> None:
    assert to_released(ours) == released
    assert from_released(released) == ours


@pytest.mark.parametrize(
    'key',
    [
        'image_encoder.backbone.stem.weight',
        'mask_decoder.iou_head.layers.0.running_mean',
        'mask_decoder.iou_head.layers.x.weight',
        'extra.tracker.temporal_embedding',
        'tracker.temporal_embedding.weight',
        '',
    ],
)
def test_a_name_without_a_row_is_an_error_that_names_it(key: str) -> None:
    with pytest.raises(UnknownKeyError) as raised:
        to_released(key)
    assert str(raised.value).startswith(f'{key!r} is no known name')
    assert 'KEY_TABLE' in str(raised.value)


def test_a_name_of_ours_is_no_released_name() -> None:
    with pytest.raises(UnknownKeyError, match='of released SAM 2 files'):
        from_released('tracker.temporal_embedding')


def test_both_sides_of_a_row_hold_the_same_placeholders() -> None:
    for _, _, rows in KEY_TABLE:
        for ours, released in rows:
            kept = [
                [mark for mark in side if mark in '#@*'] for side in (ours, released)
            ]
            assert kept[0] == kept[1], (ours, released)
