"""What users give: read where it is right, refused by name where it is not."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from projects.sam2.apis.inputs import (
    read_image,
    read_mask,
    read_mask_logits,
    read_points,
)
from projects.sam2.structures import PointPrompt

SIZE = (48, 80)
PIXELS = np.zeros((*SIZE, 3), np.uint8)


def _read(**given: Any) -> PointPrompt | None:  # noqa: ANN401  whatever a user gives
    prompt: dict[str, Any] = {'points': None, 'labels': None, 'box': None}
    return read_points(**(prompt | given), size=SIZE)


@pytest.mark.parametrize(
    ('image', 'message'),
    [
        pytest.param(PIXELS[..., 0], r'shape \(48, 80\).*RGB', id='grey'),
        pytest.param(np.zeros((4, 4, 4), np.uint8), r'\(4, 4, 4\).*RGB', id='alpha'),
        pytest.param(PIXELS.astype(np.uint16), 'uint16, not uint8', id='16 bits'),
        pytest.param(np.full((4, 4, 3), np.nan), 'float64 with NaN', id='NaN'),
        pytest.param(np.zeros((0, 4, 3), np.uint8), 'no pixel', id='empty'),
        pytest.param(Image.new('L', (4, 4)), r"'L'.*convert\('RGB'\)", id='PIL grey'),
        pytest.param(Image.new('I;16', (4, 4)), "mode 'I;16'", id='PIL 16 bits'),
    ],
)
def test_image_other_than_8_bit_rgb_is_refused(image: object, message: str) -> None:
    with pytest.raises(ValueError, match=f'^Frame 3 .*{message}'):
        read_image(image, name='Frame 3')


def test_image_of_another_type_is_refused() -> None:
    with pytest.raises(TypeError, match='X is a str; give a NumPy array'):
        read_image('picture.png', name='X')


def test_pil_image_is_read_as_its_pixels() -> None:
    pixels = np.arange(36, dtype=np.uint8).reshape(3, 4, 3)
    assert np.array_equal(read_image(Image.fromarray(pixels), name='X'), pixels)


@pytest.mark.parametrize(
    ('prompt', 'message'),
    [
        ({'points': [[80.5, 9]], 'labels': [1]}, r'\(80\.5, 9\) lies outside'),
        ({'points': [[5, -1]], 'labels': [1]}, r'image of 80 x 48 \(width x height'),
        ({'points': [[5, 5]], 'labels': [1, 0]}, 'one label for each point'),
        ({'points': [[5, 5]]}, 'points come without labels'),
        ({'labels': [1]}, 'labels come without points'),
        ({'points': [[5, np.nan]], 'labels': [1]}, 'points holds NaN'),
        ({'points': [[5, 5]], 'labels': [7]}, 'Unknown label 7; give 1'),
        ({'points': [[5, 5, 5]], 'labels': [1]}, r'\(1, 3\); give'),
        ({'points': np.zeros((0, 2)), 'labels': []}, 'points are empty; give at least'),
        ({'box': [1, 2, 3]}, r'box has shape \(3,\); give'),
        ({'box': [30, 2, 3, 9]}, r'30.*is inside out; give \(x_min'),
        ({'box': [1, 2, 300, 9]}, r'\(300, 9\) lies outside'),
        ({'box': 'left'}, 'box cannot be read as numbers'),
        (
            {'box': np.ones((2, 4)), 'points': [[5, 5]], 'labels': [1]},
            '2 boxes do not fit points of 1 objects',
        ),
    ],
)
def test_bad_points_and_boxes_are_named(prompt: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _read(**prompt)


def test_box_comes_before_the_points() -> None:
    prompt = _read(box=[8, 12, 40, 24], points=[[20, 36]], labels=[0])
    assert prompt is not None
    assert prompt.labels.tolist() == [[2, 3, 0]]
    expected = torch.tensor([[[0.1, 0.25], [0.5, 0.5], [0.25, 0.75]]])
    assert torch.allclose(prompt.coords, expected)


def test_arrays_may_be_turned_round() -> None:
    rows_and_columns = np.array([[36, 20], [10, 70]])
    turned = _read(points=rows_and_columns[:, ::-1], labels=np.array([0, 1])[::-1])
    assert turned is not None
    straight = _read(points=[[20, 36], [70, 10]], labels=[1, 0])
    assert straight is not None
    assert torch.equal(turned.coords, straight.coords)
    assert torch.equal(turned.labels, straight.labels)
    mask = np.arange(SIZE[0] * SIZE[1]).reshape(SIZE) % 7 == 0
    flipped = read_mask(mask[:, ::-1], size=SIZE)
    assert np.array_equal(flipped, np.fliplr(mask))


def test_shares_of_the_sides_are_taken_as_they_are() -> None:
    arguments = {'labels': [1], 'box': None, 'size': SIZE, 'in_pixels': False}
    prompt = read_points(points=[[0.5, 1.0]], **arguments)  # type: ignore[arg-type]
    assert prompt is not None
    assert prompt.coords.tolist() == [[[0.5, 1.0]]]
    with pytest.raises(ValueError, match='normalize_coords=False takes shares'):
        read_points(points=[[40, 20]], **arguments)  # type: ignore[arg-type]


def test_last_corner_of_the_image_is_inside_and_nothing_is_no_prompt() -> None:
    assert _read(points=[[0, 0], [80, 48]], labels=[1, 1]) is not None
    assert _read() is None


def test_earlier_logits_have_the_size_of_the_models_masks() -> None:
    given = np.zeros((16, 16), np.float32)
    for shape in ((16, 16), (1, 16, 16), (1, 1, 16, 16)):
        logits = read_mask_logits(given.reshape(shape), size=(16, 16), name='m')
        assert logits.shape == (1, 1, 16, 16)
    for bad, message in (
        (np.zeros((1, 9, 9)), r'm has shape \(1, 1, 9, 9\).*\(1, 16, 16\)'),
        (np.zeros((3, 16, 16)), r'm has shape \(1, 3, 16, 16\)'),
        (np.full((1, 16, 16), np.nan), 'm holds NaN'),
    ):
        with pytest.raises(ValueError, match=message):
            read_mask_logits(bad, size=(16, 16), name='m')


def test_mask_prompt_has_the_size_of_the_frames() -> None:
    mask = np.zeros(SIZE, bool)
    mask[3:9, 4:20] = True
    assert np.array_equal(read_mask(mask, size=SIZE), mask)
    assert np.array_equal(read_mask(torch.from_numpy(mask) * 255, size=SIZE), mask)
    with pytest.raises(ValueError, match=r'\(80, 48\), but the frames are \(48, 80\)'):
        read_mask(mask.T, size=SIZE)
    with pytest.raises(ValueError, match='mask holds NaN'):
        read_mask(np.full(SIZE, np.nan), size=SIZE)


@pytest.mark.parametrize('outside', [-4.5, 0.02])
def test_scores_are_not_mistaken_for_a_mask(outside: float) -> None:
    scores = np.full(SIZE, outside)
    scores[3:9, 4:20] = 1.0
    with pytest.raises(ValueError, match=rf'mask holds {outside}, but must be 0'):
        read_mask(scores, size=SIZE)
    assert read_mask(scores > 0.5, size=SIZE).sum() == 96
