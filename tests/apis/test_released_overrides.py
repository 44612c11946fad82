"""Hydra overrides of the release have the same effect here, or are an error."""

from typing import Any

import pytest

from projects.sam2.apis.released_overrides import read_overrides

BANK = 'tracker.memory_bank'
DECODER = '++model.sam_mask_decoder_extra_args.dynamic_multimask'


@pytest.mark.parametrize(
    ('override', 'path', 'value'),
    [
        ('++model.image_size=512', 'data_preprocessor.image_size', (512, 512)),
        ('model.num_maskmem=3', f'{BANK}.num_frames', 3),
        ('+model.max_cond_frames_in_attn=4', f'{BANK}.max_conditioning_frames', 4),
        ('++model.max_cond_frames_in_attn=-1', f'{BANK}.max_conditioning_frames', None),
        ('++model.memory_temporal_stride_for_eval=2', f'{BANK}.stride', 2),
        ('++model.max_obj_ptrs_in_encoder=8', f'{BANK}.max_pointers', 8),
        (
            '++model.only_obj_ptrs_in_the_past_for_eval=false',
            f'{BANK}.future_pointers',
            True,
        ),
        (
            '++model.binarize_mask_from_pts_for_mem_enc=true',
            'tracker.binary_clicked_memories',
            True,
        ),
        (
            '++model.non_overlap_masks_for_mem_enc=true',
            'tracker.non_overlapping_memories',
            True,
        ),
        (f'{DECODER}_via_stability=true', 'mask_decoder.stability_selection', True),
    ],
)
def test_option_of_the_model_becomes_a_value_of_our_config(
    override: str, path: str, value: Any
) -> None:
    assert read_overrides([override]) == ({path: value}, {})


def test_options_of_the_predictor_are_separate_and_the_last_value_wins() -> None:
    overrides = [
        '++model.fill_hole_area=8',
        '++model.non_overlap_masks=true',
        '++model.clear_non_cond_mem_around_input=true',
        '++model.add_all_frames_to_correct_as_cond=true',
        '++model.fill_hole_area=4.5',
    ]
    expected = {
        'fill_hole_area': 4.5,
        'non_overlap_masks': True,
        'clear_non_cond_mem_around_input': True,
        'add_all_frames_to_correct_as_cond': True,
    }
    assert read_overrides(overrides) == ({}, expected)


@pytest.mark.parametrize(
    'override',
    [
        f'{DECODER}_stability_delta=0.05',
        f'{DECODER}_stability_thresh=0.98',
        '++model.multimask_output_in_sam=true',
        '++model.multimask_max_pt_num=1',
    ],
)
def test_fixed_option_may_be_set_to_its_value(override: str) -> None:
    assert read_overrides([override]) == ({}, {})


@pytest.mark.parametrize(
    ('override', 'message'),
    [
        (f'{DECODER}_stability_thresh=0.9', r'this model always has 0\.98'),
        ('++model.multimask_max_pt_num=2', 'this model always has 1; leave it out'),
        ('++model.compile_image_encoder=true', 'this model always has False'),
        ('++model.image_encoder.scalp=1', 'an option that is not known here'),
        ('++model.hidden_dim=1', 'an option that is not known here'),
        ('++model.non_overlap_masks', 'sets no value'),
        ('++model.non_overlap_masks=1', 'gives 1 where a bool is expected'),
        ('++model.num_maskmem=true', 'gives True where a int is expected'),
        ('++model.fill_hole_area=big', "gives 'big' where a float is expected"),
    ],
)
def test_override_that_cannot_take_effect_is_an_error(
    override: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        read_overrides(['++model.fill_hole_area=8', override])
    assert repr(override) in str(raised.value)


@pytest.mark.parametrize('overrides', ['++model.image_size=512', None])
def test_overrides_are_a_list(overrides: Any) -> None:
    with pytest.raises(ValueError, match='give a list of strings'):
        read_overrides(overrides)
