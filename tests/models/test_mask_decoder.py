"""The mask decoder against the golden cases, and what they do not show."""

from collections.abc import Sequence
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor

from golden_cases import GoldenCase, assert_close, discover
from golden_models import fill_released
from projects.sam2.models.layers import cpu
from projects.sam2.models.mask_decoder import (
    MaskDecoderOutput,
    SAM2MaskDecoder,
    stability_scores,
)
from projects.sam2.models.prompt_encoder import PromptEmbeddings, SAM2PromptEncoder

TOLERANCE = 1e-4
DIMS = 64
MULTI = {'multimask': True, 'select_by_stability': False}
SINGLE = {'multimask': False, 'select_by_stability': False}
STABLE = {'multimask': False, 'select_by_stability': True}
# Without what SAM 2 added to the decoder of images.
PLAIN = {'high_res_features': False, 'object_score': False, 'iou_sigmoid': False}


def _position(salt: str) -> Tensor:
    encoder = SAM2PromptEncoder(embed_dims=DIMS)
    fill_released(encoder, salt, 'prompt_encoder.')
    return encoder.dense_position((16, 16))


@torch.no_grad()
def _decode(
    case: GoldenCase,
    how: dict[str, bool],
    *,
    scale: float = 1.0,
    num_images: int | None = None,
    num_tokens: int = 3,
) -> MaskDecoderOutput:
    num_objects = len(case.arrays['multi_masks'])
    num_images = num_images or num_objects
    decoder = SAM2MaskDecoder(embed_dims=DIMS)
    fill_released(decoder, case.spec['salt'], 'mask_decoder.')
    decoded: MaskDecoderOutput = decoder(
        embedding=case.input('demb', (num_images, DIMS, 16, 16), scale),
        position=_position(case.spec['salt']),
        prompts=PromptEmbeddings(
            sparse=case.input('dsparse', (num_objects, num_tokens, DIMS), 0.7),
            dense=case.input('ddense', (num_objects, DIMS, 16, 16), 0.5),
        ),
        high_res=(
            case.input('ds1', (num_images, DIMS // 4, 32, 32), scale),
            case.input('ds0', (num_images, DIMS // 8, 64, 64), scale),
        ),
        **how,
    )
    return decoded


golden = pytest.mark.golden
each_case = pytest.mark.parametrize(
    'case', discover('maskdec_*', without=('maskdec_plain_',))
)


@golden
@each_case
@pytest.mark.parametrize(
    ('name', 'arguments', 'step'),
    [
        ('multi', {'how': MULTI}, 1),
        ('single_train', {'how': SINGLE}, 4),
        ('single_nodyn', {'how': SINGLE}, 1),
        ('single_dyn', {'how': STABLE}, 1),
        ('single_dyn_big', {'how': STABLE, 'scale': 6.0}, 1),
        ('rep', {'how': MULTI, 'num_images': 1, 'num_tokens': 2}, 1),
    ],
)
def test_decoder_answers_like_the_released_one(
    case: GoldenCase, name: str, arguments: dict[str, Any], step: int
) -> None:
    decoded = _decode(case, **arguments)
    found = {
        'masks': decoded.mask_logits[..., ::step, ::step],
        'iou': decoded.ious,
        'tokens': decoded.mask_tokens,
        'score': decoded.object_score_logits,
    }
    for part, value in found.items():
        expected = case.arrays[f'{name}_{part}']
        assert_close(value, expected, TOLERANCE, f'{name}_{part}')


@golden
@each_case
@pytest.mark.parametrize(
    ('name', 'scale'), [('single_nodyn', 1.0), ('single_nodyn_big', 6.0)]
)
def test_stability_of_the_first_mask_is_the_released_one(
    case: GoldenCase, name: str, scale: float
) -> None:
    scores = stability_scores(_decode(case, SINGLE, scale=scale).mask_logits)
    assert_close(scores, case.arrays[f'{name}_stability'], 1e-6, name)


@golden
@pytest.mark.parametrize('case', discover('maskdec_plain_*'))
def test_decoder_of_the_image_model_answers_like_the_released_one(
    case: GoldenCase,
) -> None:
    decoder = SAM2MaskDecoder(embed_dims=DIMS, num_heads=4, mlp_dims=128, **PLAIN)
    fill_released(decoder, case.spec['salt'], 'mask_decoder.')
    num_objects = len(case.arrays['masks'])
    inputs = {
        'embedding': case.input('pemb', (num_objects, DIMS, 8, 8)),
        'position': case.input('ppe', (1, DIMS, 8, 8)),
        'prompts': PromptEmbeddings(
            sparse=case.input('psp', (num_objects, 3, DIMS), 0.7),
            dense=case.input('pde', (num_objects, DIMS, 8, 8), 0.5),
        ),
        'high_res': None,
    }
    with torch.no_grad():
        multi, single = (decoder(**inputs, **how) for how in (MULTI, SINGLE))
    for found, part in (
        (multi.mask_logits, 'masks'),
        (multi.ious, 'iou'),
        (single.mask_tokens, 'tokens'),  # of the case's pointers: always the first
        (multi.object_score_logits, 'score'),
    ):
        assert_close(found, case.arrays[part], TOLERANCE, part)


def test_stability_counts_pixels_at_both_thresholds() -> None:
    logits = torch.full((3, 4, 5), -1.0)
    logits[0, 0, :3] = 1.0  # sure
    logits[0, 1, 0] = 0.01  # between the thresholds
    logits[1, 2, 2] = -0.01  # only in the larger mask
    scores = stability_scores(logits)  # mask 2 is empty at both
    torch.testing.assert_close(scores, torch.tensor([3 / 4, 0.0, 1.0]))


def _tiny(**options: bool) -> SAM2MaskDecoder:
    torch.manual_seed(0)
    return SAM2MaskDecoder(embed_dims=16, num_heads=2, mlp_dims=8, **options)


def _answer(
    decoder: SAM2MaskDecoder, how: dict[str, bool], *, order: Sequence[int] = (0, 1)
) -> MaskDecoderOutput:
    objects = list(order)
    torch.manual_seed(1)
    high_res = (torch.randn(1, 4, 8, 8), torch.randn(1, 2, 16, 16))
    decoded: MaskDecoderOutput = decoder(
        embedding=torch.randn(1, 16, 4, 4),
        position=torch.randn(1, 16, 4, 4),
        prompts=PromptEmbeddings(
            sparse=torch.randn(3, 3, 16)[objects],
            dense=torch.randn(3, 16, 4, 4)[objects],
        ),
        high_res=None if decoder.high_res_projections is None else high_res,
        **how,
    )
    return decoded


def test_unstable_mask_gives_way_to_the_best_candidate_but_its_token_stays() -> None:
    decoder = _tiny()
    single, multi = _answer(decoder, SINGLE), _answer(decoder, MULTI)
    assert (stability_scores(single.mask_logits[:, 0]) < 0.98).all()
    chosen = _answer(decoder, STABLE)
    for index, best in enumerate(multi.ious.argmax(dim=1).tolist()):
        torch.testing.assert_close(
            chosen.mask_logits[index, 0], multi.mask_logits[index, best]
        )
        torch.testing.assert_close(chosen.ious[index, 0], multi.ious[index, best])
    torch.testing.assert_close(chosen.mask_tokens, single.mask_tokens)


def test_unstable_mask_stays_where_the_decoder_does_not_select() -> None:
    decoder = _tiny(stability_selection=False)
    kept, single = _answer(decoder, STABLE), _answer(decoder, SINGLE)
    assert torch.equal(kept.mask_logits, single.mask_logits)
    assert torch.equal(kept.ious, single.ious)


def test_decoder_without_extras_is_certain_and_needs_no_fine_features() -> None:
    decoder = _tiny(**PLAIN)
    decoded = _answer(decoder, MULTI)
    assert decoded.mask_logits.shape == (2, 3, 16, 16)
    torch.testing.assert_close(decoded.object_score_logits, torch.full((2, 1), 10.0))
    with pytest.raises(ValueError, match='no high-resolution features'):
        decoder.project_high_res(torch.zeros(1, 16, 8, 8), torch.zeros(1, 16, 16, 16))


def test_sigmoid_alone_tells_the_two_iou_heads_apart() -> None:
    squashed, raw = (
        _answer(_tiny(iou_sigmoid=flag), MULTI).ious for flag in (True, False)
    )
    torch.testing.assert_close(squashed, raw.sigmoid())


def test_projected_features_come_coarse_first_with_fewer_channels() -> None:
    projected = _tiny().project_high_res(
        torch.zeros(2, 16, 8, 8), torch.zeros(2, 16, 16, 16)
    )
    assert [tuple(level.shape) for level in projected] == [(2, 4, 8, 8), (2, 2, 16, 16)]


def test_one_image_serves_all_objects() -> None:
    decoder = _tiny()
    three = _answer(decoder, MULTI, order=range(3))
    assert three.mask_logits.shape == (3, 3, 16, 16)
    assert three.object_score_logits.shape == (3, 1)


@pytest.mark.parametrize(
    ('how', 'tokens'), [(MULTI, (1, 2, 3)), (SINGLE, (0,))], ids=['multi', 'single']
)
def test_masks_that_are_not_asked_for_teach_no_hypernetwork(
    how: dict[str, bool], tokens: tuple[int, ...]
) -> None:
    decoder = _tiny()
    _answer(decoder, how).mask_logits.square().sum().backward()
    taught = tuple(
        index
        for index, network in enumerate(decoder.hypernetworks)
        if any(p.grad is not None and p.grad.any() for p in network.parameters())
    )
    assert taught == tokens


def test_objects_do_not_see_each_other() -> None:
    decoder = _tiny()
    answer = _answer(decoder, MULTI)
    swapped = _answer(decoder, MULTI, order=[1, 0])
    torch.testing.assert_close(swapped.mask_logits.flip(0), answer.mask_logits)
    torch.testing.assert_close(swapped.ious.flip(0), answer.ious)


def test_bfloat16_autocast_stays_near_full_precision() -> None:
    decoder = _tiny()
    full = _answer(decoder, MULTI)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        half = _answer(decoder, MULTI)
    torch.testing.assert_close(half.ious.float(), full.ious, atol=0.02, rtol=0)
    assert half.mask_logits.isfinite().all()


@pytest.mark.parametrize('has_previous_masks', [False, True])
def test_objects_are_decoded_together_as_each_alone(
    monkeypatch: pytest.MonkeyPatch, *, has_previous_masks: bool
) -> None:
    torch.manual_seed(0)
    decoder, encoder = (
        SAM2MaskDecoder(embed_dims=DIMS),
        SAM2PromptEncoder(embed_dims=DIMS),
    )
    embedding = torch.randn(1, DIMS, 6, 4)
    high_res = torch.randn(1, DIMS // 4, 12, 8), torch.randn(1, DIMS // 8, 24, 16)
    sparse = torch.randn(5, 3, DIMS)
    masks = torch.randn(5, 1, 24, 16) if has_previous_masks else None

    def decode(objects: slice) -> MaskDecoderOutput:
        previous = None if masks is None else masks[objects]
        count = len(sparse[objects])
        decoded: MaskDecoderOutput = decoder(
            embedding=embedding,
            position=encoder.dense_position((6, 4)),
            prompts=PromptEmbeddings(
                sparse=sparse[objects],
                dense=encoder.embed_masks(previous, (6, 4), count),
            ),
            high_res=high_res,
            **MULTI,
        )
        return decoded

    with_graph = [decode(slice(index, index + 1)) for index in range(5)]
    monkeypatch.setattr(cpu, 'MAX_TENSOR_BYTES', 2 * 4 * high_res[1].numel() + 1)
    with (
        torch.no_grad(),
        patch.object(decoder, 'decode_all', wraps=decoder.decode_all) as decode_all,
    ):
        together = decode(slice(None))
    assert decode_all.call_count == 3  # two objects at a time
    for name in MaskDecoderOutput.__slots__:
        alone = torch.cat([getattr(decoded, name) for decoded in with_graph])
        torch.testing.assert_close(getattr(together, name), alone)
