"""Overrides of the release mean the same here, or are refused by name."""

from typing import Any

import pytest

from projects.sam2.apis.building import read_overrides

BANK = 'tracker.memory_bank'


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
            '++model.sam_mask_decoder_extra_args.dynamic_multimask_via_stability=true',
            'mask_decoder.stability_selection',
            True,
        ),
    ],
)
def test_option_of_the_model_has_its_place_in_the_config(
    override: str,
    path: str,
    value: Any,
) -> None:
    read = read_overrides([override])
    assert read.model == {path: value}
    assert not read.predictor


def test_options_of_the_predictor_are_kept_apart_and_the_last_one_wins() -> None:
    read = read_overrides(
        [
            '++model.fill_hole_area=8',
            '++model.non_overlap_masks=true',
            '++model.clear_non_cond_mem_around_input=true',
            '++model.add_all_frames_to_correct_as_cond=true',
            '++model.fill_hole_area=4.5',
        ]
    )
    assert not read.model
    assert read.predictor == {
        'fill_hole_area': 4.5,
        'non_overlap_masks': True,
        'clear_non_cond_mem_around_input': True,
        'add_all_frames_to_correct_as_cond': True,
    }


def test_value_that_is_fixed_here_may_be_said() -> None:
    prefix = '++model.sam_mask_decoder_extra_args.dynamic_multimask_stability_'
    read = read_overrides([f'{prefix}delta=0.05', f'{prefix}thresh=0.98'])
    assert not read.model
    with pytest.raises(ValueError, match=r'this model always has 0\.98'):
        read_overrides([f'{prefix}thresh=0.9'])
    # Scripts say again what the released configs say.
    multimask = ('output_in_sam=true', 'min_pt_num=0', 'max_pt_num=1')
    read = read_overrides([f'++model.multimask_{text}' for text in multimask])
    assert not read.model
    with pytest.raises(ValueError, match='this model always has 1; leave it out'):
        read_overrides(['++model.multimask_max_pt_num=2'])


@pytest.mark.parametrize(
    ('override', 'message'),
    [
        ('++model.compile_image_encoder=true', 'this model always has False'),
        ('++model.image_encoder.scalp=1', 'an option that is not known here'),
        ('++model.non_overlap_masks', 'sets no value'),
        ('++model.non_overlap_masks=1', 'gives 1 where a bool is expected'),
        ('++model.num_maskmem=true', 'gives True where a int is expected'),
        ('++model.fill_hole_area=big', "gives 'big' where a float is expected"),
    ],
)
def test_what_cannot_be_honoured_is_refused(override: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        read_overrides(['++model.fill_hole_area=8', override])
    assert repr(override) in str(raised.value)


def test_one_text_in_place_of_a_list_is_refused() -> None:
    with pytest.raises(ValueError, match='give a list of strings'):
        read_overrides('++model.image_size=512')
    with pytest.raises(ValueError, match='is None; give a list of strings'):
        read_overrides(None)  # type: ignore[arg-type]
