"""Masks, scores and pointers for each kind of prompt, against the golden cases."""

import pytest
import torch

from golden_cases import (
    GoldenCase,
    assert_close,
    assert_exact,
    discover,
    golden_dir,
    unpack_masks,
)
from golden_models import EMBED_DIMS, IMAGE_SIZE, golden_model
from projects.sam2.models.tracking.frame import NO_OBJECT_LOGIT
from projects.sam2.ops import downsample_logits, upsample_logits
from projects.sam2.structures import (
    DecoderStep,
    ImageFeatures,
    PointPrompt,
    TrackingMode,
)

EVALUATION = TrackingMode.EVALUATION


def _features(case: GoldenCase) -> ImageFeatures:
    return ImageFeatures(
        embedding=case.input('hb', (3, EMBED_DIMS, 16, 16)),
        position=torch.zeros(1),
        high_res_8=case.input('hs1', (3, EMBED_DIMS // 4, 32, 32)),
        high_res_4=case.input('hs0', (3, EMBED_DIMS // 8, 64, 64)),
    )


def _points(case: GoldenCase, labels: list[int]) -> PointPrompt:
    """First points of the prompts that were made beside a case, with other labels."""
    beside = case.path.with_name(case.path.name.replace('base_heads', 'prompt'))
    others = [GoldenCase(path) for path in sorted(golden_dir().glob('prompt_*.json'))]
    salt = case.spec['salt']
    found = [
        other for other in others if other.path == beside or other.spec['salt'] == salt
    ]
    if not found:
        pytest.skip(f'no points: no {beside.name} or other prompts of salt {salt!r}')
    found.sort(key=lambda other: other.path != beside)
    coords = torch.from_numpy(found[0].arrays['in_points'])[:, : len(labels)]
    return PointPrompt(
        coords=coords, labels=torch.tensor([labels] * 3, dtype=torch.int32)
    )


def _compare(case: GoldenCase, name: str, step: DecoderStep) -> None:
    high = upsample_logits(step.mask_logits, (IMAGE_SIZE, IMAGE_SIZE))
    found = {
        'ious': step.candidate_ious,
        'low': step.mask_logits,
        'high': high[..., ::4, ::4],
        'obj_ptr': step.object_pointer,
        'score': step.object_score_logits,
    }
    for part, value in found.items():
        expected = case.arrays[f'{name}_{part}']
        assert_close(value, expected, 1e-4, f'{case.name}/{name}_{part}')


@pytest.mark.golden
@pytest.mark.parametrize('case', discover('base_heads_*'))
def test_heads_answer_each_prompt_like_the_released_ones(case: GoldenCase) -> None:
    heads = golden_model(case.spec['salt']).heads
    features = _features(case)
    masks = unpack_masks(case.arrays['masks_bits'], (3, 1, IMAGE_SIZE, IMAGE_SIZE))
    earlier = downsample_logits(masks.float(), (64, 64))
    three = _points(case, [1, 0, 1])
    prompts = {
        'heads_none_multi': (None, None),
        'heads_1pt_multi': (_points(case, [1]), None),
        'heads_3pt_single': (three, None),
        'heads_3pt_mask': (three, earlier),
    }
    with torch.no_grad():
        for name, (points, logits) in prompts.items():
            step = heads.decode(
                embedding=features.embedding,
                features=features,
                mode=EVALUATION,
                points=points,
                previous_logits=logits,
            )
            _compare(case, name, step)


@pytest.mark.golden
@pytest.mark.parametrize('case', discover('base_heads_*'))
def test_mask_prompt_becomes_the_mask_as_in_the_released_model(
    case: GoldenCase,
) -> None:
    heads = golden_model(case.spec['salt']).heads
    masks = unpack_masks(case.arrays['masks_bits'], (3, 1, IMAGE_SIZE, IMAGE_SIZE))
    with torch.no_grad():
        step = heads.use_mask_as_output(mask=masks, features=_features(case))
    found = {
        'ious': step.candidate_ious,
        'low': step.mask_logits,
        'obj_ptr': step.object_pointer,
        'score': step.object_score_logits,
    }
    for part, value in found.items():
        expected = case.arrays[f'mask_as_output_{part}']
        assert_close(value, expected, 1e-4, f'{case.name}/mask_as_output_{part}')
    assert step.full_logits is not None
    assert_exact(step.full_logits > 0, masks, 'mask')


@pytest.mark.parametrize('gate', [True, False])
def test_gate_in_training_hides_absent_objects_only_where_it_is_on(
    *, gate: bool
) -> None:
    model = golden_model('gate:', tracker={'gate_training_masks': gate})
    with torch.no_grad():
        model.mask_decoder.object_score_head.layers[-1].weight.zero_()
        model.mask_decoder.object_score_head.layers[-1].bias.fill_(-1.0)
        features = model.encode(torch.zeros(1, 3, 64, 64))
        for mode in TrackingMode:
            step = model.heads.decode(
                embedding=features.embedding, features=features, mode=mode
            )
            hidden = bool((step.mask_logits == NO_OBJECT_LOGIT).all())
            assert hidden is (gate or mode is EVALUATION)


def test_masks_are_float32_under_autocast() -> None:
    heads = golden_model('cast:').heads
    decoded: list[torch.dtype] = []
    heads.mask_decoder.register_forward_hook(
        lambda _module, _inputs, output: decoded.append(output.mask_logits.dtype)
    )
    features = golden_model('cast:').encode(torch.zeros(1, 3, 64, 64))
    with torch.no_grad(), torch.autocast('cpu', dtype=torch.bfloat16):
        step = heads.decode(
            embedding=features.embedding, features=features, mode=EVALUATION
        )
    assert decoded == [torch.bfloat16]
    assert step.candidate_logits.dtype is step.mask_logits.dtype is torch.float32
