"""The image predictor against the released one, and its errors."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from golden_cases import GoldenCase, assert_close, discover, note_error
from golden_models import case_image, case_model, golden_model
from projects.sam2.apis import SAM2ImagePredictor
from projects.sam2.apis.image_predictor import (
    preprocess_image,
    repair_masks,
)
from projects.sam2.structures import PointPrompt

TOLERANCE = 2e-4
FULL_SIZE_TOLERANCE = 2e-3  # stored in half precision
MAX_WRONG_BITS = 5e-4
SIZE = (48, 80)


@pytest.fixture(scope='module')
def predictor() -> SAM2ImagePredictor:
    """The small model at 64 px with a picture of noise."""
    model = golden_model('images:', data_preprocessor={'image_size': (64, 64)})
    return SAM2ImagePredictor(model)


def _noise(seed: int = 0, size: tuple[int, int] = SIZE) -> NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 255, (*size, 3), dtype=np.uint8)


def _prompts(case: GoldenCase, predictor: SAM2ImagePredictor) -> dict[str, Any]:
    """Prompts of the golden predictions, by the names of their results."""
    arrays = case.arrays
    points, labels, boxes = (arrays[f'in_{n}'] for n in ('points', 'labels', 'boxes'))
    single = {'multimask_output': False}
    prompts: dict[str, Any] = {
        'pt1_multi': {'point_coords': points[:1], 'point_labels': labels[:1]},
        'pt3_single': {'point_coords': points[:3], 'point_labels': labels[:3]} | single,
        'box_single': {'box': boxes[0]} | single,
        'box_pt_multi': {
            'point_coords': points[3:5],
            'point_labels': labels[3:5],
            'box': boxes[1],
        },
        'none_multi': {},
        'batch_boxes': {'box': boxes} | single,
        'batch_pts': {
            'point_coords': points[:, None],
            'point_labels': labels[:, None],
        },
        'pt1_unnormalised': {
            'point_coords': points[:1] / np.array(case.spec['size_wh']),
            'point_labels': labels[:1],
            'normalize_coords': False,
        },
    }
    if 'pt1_best' in arrays:
        low_res = predictor.predict(points[:1], labels[:1])[2]
        best = int(arrays['pt1_best'])
        prompts['mask_only'] = {'mask_input': low_res[best : best + 1]}
        prompts['mask_pt_single'] = prompts['mask_only'] | single
        prompts['mask_pt_single'] |= {
            'point_coords': points[:2],
            'point_labels': labels[:2],
        }
    return {name: prompt for name, prompt in prompts.items() if f'{name}/low' in arrays}


def _assert_equal(
    case: GoldenCase, name: str, answer: tuple[NDArray[Any], ...], tolerance: float
) -> None:
    shown = dict(zip(('logits', 'iou', 'low'), answer, strict=True))
    shown['logits'] = shown['logits'][..., ::5, ::5]
    compared = {f'{name}/{what}': value for what, value in shown.items()}
    present = {key: v for key, v in compared.items() if key in case.arrays}
    assert len(present) >= 2
    for key, value in present.items():
        assert_close(value, case.arrays[key], tolerance, key)


@pytest.mark.golden
@pytest.mark.parametrize('case', [*discover('image_pred_*'), *discover('full_image_*')])
def test_predictions_equal_the_released_ones(case: GoldenCase) -> None:
    predictor = SAM2ImagePredictor(case_model(case))
    tiny = bool(case.spec['tiny'])
    tolerance = TOLERANCE if tiny else FULL_SIZE_TOLERANCE
    predictor.set_image(case_image(case, 'image'))
    embedding = predictor.get_image_embedding()[0]
    step = 1 if tiny else 4
    assert_close(
        embedding[:, ::step, ::step], case.arrays['image_embed'], tolerance, 'image'
    )
    prompts = _prompts(case, predictor)
    assert len(prompts) == (10 if tiny else 2)
    for name, prompt in prompts.items():
        answer = predictor.predict(**prompt, return_logits=True)
        _assert_equal(case, name, answer, tolerance)


@pytest.mark.golden
@pytest.mark.parametrize('case', discover('image_pred_*'))
def test_masks_equal_the_released_ones(case: GoldenCase) -> None:
    predictor = SAM2ImagePredictor(case_model(case))
    predictor.set_image(case_image(case, 'image'))
    points, labels = case.arrays['in_points'][:1], case.arrays['in_labels'][:1]
    masks = predictor.predict(points, labels)[0]
    assert masks.dtype == np.bool_
    assert list(masks.shape) == case.arrays['pt1_multi/binary_shape'].tolist()
    expected = np.unpackbits(case.arrays['pt1_multi/binary_bits'])[: masks.size]
    wrong = float((masks.ravel() != expected).mean())
    note_error(wrong, MAX_WRONG_BITS)
    assert wrong <= MAX_WRONG_BITS


@pytest.mark.golden
@pytest.mark.parametrize('case', discover('image_pred_*'))
def test_images_of_a_batch_equal_the_released_ones(case: GoldenCase) -> None:
    predictor = SAM2ImagePredictor(case_model(case))
    images = [case_image(case, name) for name in ('image', 'image2')]
    predictor.set_image_batch(images)
    points, labels = case.arrays['in_points'], case.arrays['in_labels']
    other_size = np.array(case.spec['size2_wh']) / np.array(case.spec['size_wh'])
    answers = predictor.predict_batch(
        [points[:1], points[1:3] * other_size],
        [labels[:1], labels[1:3]],
        return_logits=True,
    )
    for index in range(2):
        answer = tuple(column[index] for column in answers)
        _assert_equal(case, f'imgbatch{index}', answer, TOLERANCE)


@pytest.mark.golden
@pytest.mark.parametrize('case', discover('image_pred_*'))
def test_repaired_masks_equal_the_released_ones(case: GoldenCase) -> None:
    predictor = SAM2ImagePredictor(
        case_model(case), max_hole_area=20, max_sprinkle_area=20
    )
    predictor.set_image(case_image(case, 'image'))
    points, labels = case.arrays['in_points'][:1], case.arrays['in_labels'][:1]
    answer = predictor.predict(points, labels, return_logits=True)
    _assert_equal(case, 'holes_sprinkles', answer, TOLERANCE)


@pytest.mark.golden
@pytest.mark.parametrize('case', discover('image_pred_*'))
def test_preprocessed_image_equals_the_released_one(case: GoldenCase) -> None:
    pixels = preprocess_image(
        case_model(case).data_preprocessor, case_image(case, 'image')
    )
    assert_close(pixels[0, :, ::2, ::2], case.arrays['preproc'], 2e-4, 'preproc')


def test_points_are_scaled_to_the_models_image() -> None:
    model = golden_model('points:', data_preprocessor={'image_size': (64, 96)})
    shares = PointPrompt(
        coords=torch.tensor([[[0.5, 0.25]]]), labels=torch.ones(1, 1, dtype=torch.int32)
    )
    scaled = model.data_preprocessor.point_prompt(shares)
    assert scaled.coords.tolist() == [[[48.0, 16.0]]]


def test_holes_and_specks_are_repaired_beyond_the_threshold() -> None:
    logits = torch.full((1, 1, 9, 9), -3.0)
    logits[..., 2:7, 2:7] = 3.0
    logits[..., 4, 4] = -1.0
    logits[..., 0, 8] = 1.0
    repaired = repair_masks(logits, threshold=0.5, max_hole_area=2, max_speck_area=2)
    assert repaired[0, 0, 4, 4] == 10.5
    assert repaired[0, 0, 0, 8] == -9.5
    assert (repaired != logits).sum() == 2
    assert repair_masks(logits) is logits


def test_repairs_see_the_original_mask() -> None:
    logits = torch.full((1, 1, 7, 7), 2.0)
    logits[..., 2:5, 2:5] = -2.0
    logits[..., 3, 3] = 2.0  # a speck within a hole that is too large to fill
    repaired = repair_masks(logits, max_hole_area=3, max_speck_area=3)
    assert (repaired != logits).nonzero().tolist() == [[0, 0, 3, 3]]


def test_several_objects_equal_each_alone(predictor: SAM2ImagePredictor) -> None:
    predictor.set_image(_noise())
    boxes = np.array([[3, 5, 40, 30], [20, 10, 79, 47]], np.float32)
    together = predictor.predict(box=boxes, multimask_output=False, return_logits=True)
    assert together[0].shape == (2, 1, *SIZE)
    assert together[1].shape == (2, 1)
    for index, box in enumerate(boxes):
        alone = predictor.predict(box=box, multimask_output=False, return_logits=True)
        for both, single in zip(together, alone, strict=True):
            np.testing.assert_allclose(both[index], single, atol=1e-4)


def test_the_models_image_need_not_be_square() -> None:
    model = golden_model('images:', data_preprocessor={'image_size': (64, 96)})
    predictor = SAM2ImagePredictor(model)
    predictor.set_image(_noise())
    masks, ious, low_res = predictor.predict([[70, 20]], [1])
    assert masks.shape == (3, *SIZE)
    assert ious.shape == (3,)
    assert low_res.shape == (3, 16, 24)
    again = predictor.predict([[70, 20]], [1], mask_input=low_res[:1])[2]
    assert not np.allclose(again, low_res)


def test_pil_image_equals_its_array(predictor: SAM2ImagePredictor) -> None:
    predictor.set_image(_noise())
    from_array = predictor.get_image_embedding()
    predictor.set_image(Image.fromarray(_noise()))
    assert torch.equal(predictor.get_image_embedding(), from_array)


@pytest.mark.parametrize(
    'bad',
    [
        pytest.param(_noise().astype(np.uint16), id='16 bits'),
        pytest.param(_noise()[..., 0], id='grey'),
        pytest.param(np.full((*SIZE, 3), np.nan), id='NaN'),
        pytest.param(Image.new('L', (4, 4)), id='PIL grey'),
        pytest.param(Image.new('I;16', (4, 4)), id='PIL 16 bits'),
    ],
)
def test_wrong_image_leaves_the_previous_one(
    predictor: SAM2ImagePredictor, bad: NDArray[np.uint8]
) -> None:
    predictor.set_image(_noise())
    before = predictor.get_image_embedding()
    with pytest.raises(ValueError, match=r"Image 0 .*convert\('RGB'\)"):
        predictor.set_image(bad)
    assert predictor.get_image_embedding() is before


@pytest.mark.parametrize(
    ('prompt', 'message'),
    [
        ({'point_coords': [[85, 9]], 'point_labels': [1]}, 'lies outside'),
        (
            {'point_coords': [[5, 5]], 'point_labels': [1, 0]},
            'one label for each point',
        ),
        ({'point_coords': [[np.nan, 5]], 'point_labels': [1]}, 'points holds NaN'),
        ({'box': [1, 2, np.nan, 9]}, 'box holds NaN'),
        ({'box': [1, 2, 300, 9]}, 'lies outside'),
        ({'mask_input': np.zeros((1, 9, 9))}, r'\(1, 16, 16\)'),
        ({'mask_input': np.full((1, 16, 16), np.nan)}, 'mask_input holds NaN'),
        (
            {'mask_input': np.zeros((2, 1, 16, 16)), 'box': [[1, 1, 9, 9]] * 3},
            'masks of 2 objects, the points or boxes are of 3',
        ),
    ],
)
def test_wrong_prompt_is_named_and_changes_nothing(
    predictor: SAM2ImagePredictor, prompt: dict[str, Any], message: str
) -> None:
    predictor.set_image(_noise())
    good = predictor.predict([[5, 5]], [1])
    with pytest.raises(ValueError, match=message):
        predictor.predict(**prompt)
    batch: dict[str, Any] = {f'{name}_batch': [v] for name, v in prompt.items()}
    with pytest.raises(ValueError, match=message):
        predictor.predict_batch(**batch)
    again = predictor.predict([[5, 5]], [1])
    assert all(np.array_equal(a, b) for a, b in zip(good, again, strict=True))


def test_padding_point_may_lie_anywhere(predictor: SAM2ImagePredictor) -> None:
    predictor.set_image(_noise())
    near = predictor.predict([[5, 5], [0, 0]], [1, -1])
    far = predictor.predict([[5, 5], [999, -4]], [1, -1])
    assert np.array_equal(near[2], far[2])


def test_wrong_calls_are_errors(predictor: SAM2ImagePredictor) -> None:
    predictor.reset_predictor()
    with pytest.raises(RuntimeError, match='call set_image first'):
        predictor.predict([[5, 5]], [1])
    with pytest.raises(TypeError, match='a str; give a NumPy array'):
        predictor.set_image('picture.png')  # type: ignore[arg-type]  # the error
    with pytest.raises(ValueError, match='image_list is empty'):
        predictor.set_image_batch([])
    predictor.set_image_batch([_noise(0), _noise(1)])
    with pytest.raises(ValueError, match='box_batch has 1 entries for 2 images'):
        predictor.predict_batch(box_batch=[[1, 2, 3, 4]])
