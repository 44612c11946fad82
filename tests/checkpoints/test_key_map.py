"""The key map against the keys of the released models."""

import re
from collections.abc import Callable

import pytest
import torch

from bridge_models import (
    RELEASED_MODELS,
    assert_same_weights,
    meta_model,
    shapes_of,
)
from golden_cases import GoldenCase, discover
from projects.sam2.checkpoints.key_map import (
    COPIES,
    KEY_TABLE,
    Naming,
    UnknownKeyError,
    from_huggingface,
    from_released,
    map_from_huggingface,
    map_from_released,
    map_to_huggingface,
    map_to_released,
    to_huggingface,
    to_released,
)

WAYS: dict[Naming, tuple[Callable[[str], str], Callable[[str], str]]] = {
    Naming.RELEASED: (to_released, from_released),
    Naming.HUGGINGFACE: (to_huggingface, from_huggingface),
}


@pytest.mark.golden
@pytest.mark.parametrize('case', discover('manifest_*'))
def test_every_released_key_has_one_name_of_ours_and_comes_back(
    case: GoldenCase,
) -> None:
    released = case.spec['state_dict']
    ours = map_from_released(released)
    assert len(ours) == len(released)
    assert map_to_released(ours) == released


@pytest.mark.golden
@pytest.mark.parametrize('case', discover('manifest_*'))
def test_shapes_come_back_by_way_of_transformers(case: GoldenCase) -> None:
    released = {
        key: torch.empty(entry['shape'], device='meta')
        for key, entry in case.spec['state_dict'].items()
    }
    theirs = map_to_huggingface(map_from_released(released))
    back = map_to_released(map_from_huggingface(theirs))
    assert shapes_of(back) == shapes_of(released)


@pytest.mark.parametrize('name', RELEASED_MODELS)
@pytest.mark.parametrize('naming', [Naming.RELEASED, Naming.HUGGINGFACE])
def test_names_of_every_model_pair_one_to_one(name: str, naming: Naming) -> None:
    to, back = WAYS[naming]
    ours = meta_model(name).state_dict().keys()
    theirs = {key: to(key) for key in ours}
    assert len(set(theirs.values())) == len(ours)
    assert {back(key): key for key in theirs.values()} == theirs


@pytest.mark.parametrize(
    ('ours', 'released', 'huggingface'),
    [
        (
            'image_encoder.backbone.blocks.21.attention.output.weight',
            'image_encoder.trunk.blocks.21.attn.proj.weight',
            'vision_encoder.backbone.blocks.21.attn.proj.weight',
        ),
        (
            'image_encoder.backbone.blocks.5.shortcut.bias',
            'image_encoder.trunk.blocks.5.proj.bias',
            'vision_encoder.backbone.blocks.5.proj.bias',
        ),
        (
            'image_encoder.backbone.blocks.5.mlp.layers.1.bias',
            'image_encoder.trunk.blocks.5.mlp.layers.1.bias',
            'vision_encoder.backbone.blocks.5.mlp.proj_out.bias',
        ),
        (
            'image_encoder.neck.lateral_convs.3.weight',
            'image_encoder.neck.convs.3.conv.weight',
            'vision_encoder.neck.convs.3.weight',
        ),
        (
            'tracker.memory_attention.layers.3.cross_attention.output.weight',
            'memory_attention.layers.3.cross_attn_image.out_proj.weight',
            'memory_attention.layers.3.cross_attn_image.o_proj.weight',
        ),
        (
            'tracker.memory_attention.layers.0.mlp.layers.1.bias',
            'memory_attention.layers.0.linear2.bias',
            'memory_attention.layers.0.linear2.bias',
        ),
        (
            'tracker.memory_encoder.mask_downsampler.layers.10.bias',
            'memory_encoder.mask_downsampler.encoder.10.bias',
            'memory_encoder.mask_downsampler.layers.3.layer_norm.bias',
        ),
        (
            'tracker.memory_encoder.fuser.1.scale',
            'memory_encoder.fuser.layers.1.gamma',
            'memory_encoder.memory_fuser.layers.1.scale',
        ),
        (
            'tracker.object_pointer.no_object_pointer',
            'no_obj_ptr',
            'no_object_pointer',
        ),
        (
            'prompt_encoder.point_embeddings.2.weight',
            'sam_prompt_encoder.point_embeddings.2.weight',
            'prompt_encoder.point_embed.weight[2]',
        ),
        (
            'mask_decoder.high_res_projections.0.weight',
            'sam_mask_decoder.conv_s0.weight',
            'mask_decoder.conv_s0.weight',
        ),
        (
            'mask_decoder.hypernetworks.2.layers.1.weight',
            'sam_mask_decoder.output_hypernetworks_mlps.2.layers.1.weight',
            'mask_decoder.output_hypernetworks_mlps.2.layers.0.weight',
        ),
    ],
)
def test_names_pair_as_documented(ours: str, released: str, huggingface: str) -> None:
    assert to_released(ours) == released
    assert from_released(released) == ours
    assert to_huggingface(ours) == huggingface
    assert from_huggingface(huggingface) == ours


def test_point_embeddings_are_stacked_in_order_and_taken_apart() -> None:
    ours = {
        f'prompt_encoder.point_embeddings.{row}.weight': torch.full((1, 3), float(row))
        for row in (2, 0, 3, 1)
    }
    theirs = map_to_huggingface(ours)
    assert theirs.keys() == {'prompt_encoder.point_embed.weight'}
    stacked = theirs['prompt_encoder.point_embed.weight']
    assert stacked.tolist() == [[float(row)] * 3 for row in range(4)]
    assert_same_weights(map_from_huggingface(theirs), ours)


def test_copy_of_the_encoding_of_places_is_read_once_and_always_written() -> None:
    ours = {'prompt_encoder.position_encoding.gaussian_matrix': torch.randn(2, 4)}
    original, copy = COPIES[0]
    value = next(iter(ours.values()))
    # transformers 5 fills a copy that a file lacks with random numbers.
    written = map_to_huggingface(ours)
    assert written.keys() == {original, copy}
    assert torch.equal(written[original], written[copy])
    for theirs in ({original: value, copy: value.clone()}, {copy: value}):
        assert_same_weights(map_from_huggingface(theirs), ours)
    with pytest.raises(ValueError, match=f'{copy} should be a copy of {original}'):
        map_from_huggingface({original: value, copy: value + 1})


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
    assert 'key_map.py' in str(raised.value)


def test_a_name_of_ours_is_nobody_elses() -> None:
    with pytest.raises(UnknownKeyError, match='of released SAM 2 files'):
        from_released('tracker.temporal_embedding')
    with pytest.raises(UnknownKeyError, match='of the SAM 2 of transformers'):
        from_huggingface('tracker.temporal_embedding')


def test_all_sides_of_a_row_hold_the_same_placeholders() -> None:
    mark = re.compile(r'<\d>|[#@*]')
    for prefixes, rows in KEY_TABLE:
        assert not any(mark.search(prefix) for prefix in prefixes)
        for ours, *others in rows:
            for other in others:
                assert mark.findall(other) == mark.findall(ours), (ours, other)
