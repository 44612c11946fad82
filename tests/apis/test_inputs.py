"""User input is converted, or an error names it and the remedy."""

from enum import Enum
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from projects.sam2.apis.inputs import (
    read_flag,
    read_image,
    read_mask,
    read_mask_logits,
    read_number,
    read_object_id,
    read_points,
    read_whole_number,
)
from projects.sam2.structures import PointPrompt

SIZE = (48, 80)
PIXELS = np.zeros((*SIZE, 3), np.uint8)


class Kind(str, Enum):  # as scripts write it for Python 3.10
    """What objects are."""

    CAT = 'cat'


def _read(**given: Any) -> PointPrompt | None:
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
def test_image_other_than_8_bit_rgb_is_an_error(image: object, message: str) -> None:
    with pytest.raises(ValueError, match=f'^Frame 3 .*{message}'):
        read_image(image, name='Frame 3')


def test_image_of_another_type_is_an_error() -> None:
    with pytest.raises(TypeError, match='X is a str; give a NumPy array'):
        read_image('picture.png', name='X')


def test_pil_image_is_read_as_its_pixels() -> None:
    pixels = np.arange(36, dtype=np.uint8).reshape(3, 4, 3)
    assert np.array_equal(read_image(Image.fromarray(pixels), name='X'), pixels)


@pytest.mark.parametrize(
    ('prompt', 'message'),
    [
        ({'points': [[84.5, 9]], 'labels': [1]}, r'\(84\.5, 9\) lies outside'),
        ({'points': [[5, -3]], 'labels': [1]}, r'image of 80 x 48 \(width x height'),
        (
            {'points': [[-300, -300]], 'labels': [1]},
            r'by 5% of the side, or 2 pixels.*x from -4 to 84, y from -2\.4 to 50\.4$',
        ),
        (
            {'box': [-300, -300, 9, 9]},
            r'A box must meet the image.*x from -80 to 160, y from -48 to 96$',
        ),
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
        ({'box': [81, 2, 90, 9]}, r'\(81, 2\) lies outside'),
        ({'box': [5, -9, 9, -1]}, r'\(9, -1\) lies outside'),
        ({'box': [[1, 2, 3, 4], [-90, 2, 9, 9]]}, r'\(-90, 2\) lies outside'),
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


def test_arrays_may_have_negative_strides() -> None:
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


def test_prompts_may_be_lists_of_tensors_and_arrays_of_objects() -> None:
    straight = _read(points=[[20, 36], [70, 10]], labels=[1, 0], box=[1, 2, 30, 40])
    odd = _read(
        points=[torch.tensor([20, 36]), np.array([70, 10])],
        labels=[torch.tensor(1), np.int64(0)],
        box=np.array([1, 2, 30, 40], dtype=object),
    )
    assert straight is not None
    assert odd is not None
    assert torch.equal(odd.coords, straight.coords)
    assert torch.equal(odd.labels, straight.labels)


@pytest.mark.parametrize(
    ('given', 'plain'),
    [
        ({'box': np.array([[8, 12], [40, 24]])}, {'box': [8, 12, 40, 24]}),
        (
            {'box': torch.tensor([[[8, 12], [40, 24]], [[1, 2], [30, 40]]])},
            {'box': [[8, 12, 40, 24], [1, 2, 30, 40]]},
        ),
        (
            {'box': [8, 12, 40, 24], 'points': [], 'labels': []},
            {'box': [8, 12, 40, 24]},
        ),
        (
            {'points': np.array([[[20, 36], [70, 10]]]), 'labels': [1, 0]},
            {'points': [[20, 36], [70, 10]], 'labels': [1, 0]},
        ),
        (
            {'points': [[20, 36], [70, 10]], 'labels': np.array([[True, False]])},
            {'points': [[20, 36], [70, 10]], 'labels': [1, 0]},
        ),
    ],
)
def test_other_shapes_of_one_prompt_are_the_same(
    given: dict[str, Any], plain: dict[str, Any]
) -> None:
    actual, expected = _read(**given), _read(**plain)
    assert actual is not None
    assert expected is not None
    assert torch.equal(actual.coords, expected.coords)
    assert torch.equal(actual.labels, expected.labels)


def test_shares_of_the_sides_are_not_scaled() -> None:
    arguments = {'labels': [1], 'box': None, 'size': SIZE, 'in_pixels': False}
    prompt = read_points(points=[[0.5, 1.0]], **arguments)  # type: ignore[arg-type]
    assert prompt is not None
    assert prompt.coords.tolist() == [[[0.5, 1.0]]]
    with pytest.raises(ValueError, match='normalize_coords=False takes shares'):
        read_points(points=[[40, 20]], **arguments)  # type: ignore[arg-type]


def test_points_and_boxes_a_little_beyond_the_border_are_not_clamped() -> None:
    for x, y in ((0, 0), (80, 48), (80.5, -0.5), (-4, 50)):
        prompt = _read(points=[[x, y]], labels=[1])
        assert prompt is not None
        assert torch.allclose(prompt.coords[0, 0], torch.tensor([x / 80, y / 48]))
    for box in ((-0.4, 40, 60, 47), (20, 40, 80.3, 48.1), (-30, -20, 0, 70)):
        prompt = _read(box=box)
        assert prompt is not None
        expected = torch.tensor(box).view(1, 2, 2) / torch.tensor([80, 48])
        assert torch.allclose(prompt.coords, expected)


def test_no_points_and_no_box_are_no_prompt() -> None:
    assert _read() is None


@pytest.mark.parametrize(
    ('given', 'expected'),
    [
        (3, 3),
        (3.0, 3),
        (np.uint8(3), 3),
        (np.int64(-3), -3),
        (np.float32(3), 3),
        (np.array(3), 3),
        (torch.tensor(3), 3),
        (torch.tensor(3.0, dtype=torch.float16), 3),
        (2**80, 2**80),
        ('cat', 'cat'),
        (np.str_('cat'), 'cat'),
        (Kind.CAT, 'cat'),
    ],
)
def test_equal_ids_of_any_type_are_the_same(given: object, expected: object) -> None:
    number = read_object_id(given)
    assert number == expected
    assert type(number) is type(expected)


@pytest.mark.parametrize(
    'given',
    [
        None,
        True,
        np.bool_(1),
        torch.ones((), dtype=torch.bool),
        3.5,
        np.nan,
        float('inf'),
        torch.tensor([3]),
        np.array([[3]]),
        [3],
        (1, 2),
        b'3',
        3 + 0j,
        pytest.param(object(), id='object'),
    ],
    ids=repr,
)
def test_other_values_are_no_id(given: object) -> None:
    with pytest.raises(ValueError, match=r'^obj_id is .*; give a whole number or a st'):
        read_object_id(given)


def test_numbers_and_flags_are_checked() -> None:
    assert read_whole_number(np.float64(4), name='n', least=1, most=4) == 4
    assert read_number(np.float32(0.5), name='t', most=1) == 0.5
    assert read_flag(np.bool_(0), name='f') is False
    for flag in (1, 1.0, np.array(1), torch.ones((), dtype=torch.bool)):
        assert read_flag(flag, name='f') is True
    for value, message in (
        ('4', r"^n is '4' \(str\); give a whole number from 1 to 4$"),
        (2.5, r'^n is 2\.5 \(float\); give a whole number from 1 to 4$'),
        (5, '^n is 5; give a number from 1 to 4$'),
        (np.arange(3), r'^n is a ndarray of shape \(3,\); give a whole'),
    ):
        with pytest.raises(ValueError, match=message):
            read_whole_number(value, name='n', least=1, most=4)
    with pytest.raises(ValueError, match=r'^t is nan \(float\); give a number of at m'):
        read_number(np.nan, name='t', most=1)
    with pytest.raises(ValueError, match=r"^f is 'false' \(str\); give True or False"):
        read_flag('false', name='f')


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
    picture = Image.fromarray(mask.astype(np.uint8) * 255)
    tensor = torch.from_numpy(mask) * 255
    for given in (tensor, tensor.to_sparse(), picture, mask.tolist()):
        assert np.array_equal(read_mask(given, size=SIZE), mask)  # type: ignore[arg-type]
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
