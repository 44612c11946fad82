"""Boxes around masks and their imprecision, against the released code."""

import pytest
import torch
from torch import Tensor

from golden_cases import (
    GoldenCase,
    assert_exact,
    assert_within,
    discover,
    unpack_masks,
)
from projects.sam2.ops import (
    boxes_to_points,
    jitter_boxes,
    masks_to_boxes,
    sample_boxes,
)
from projects.sam2.structures import PointLabel

SIZE = (60, 100)


@pytest.fixture
def masks() -> Tensor:
    """A large rectangle, a single pixel in the corner, and nothing."""
    made = torch.zeros(3, 1, *SIZE, dtype=torch.bool)
    made[0, 0, 5:45, 10:90] = True
    made[1, 0, 59, 99] = True
    return made


@pytest.mark.golden
@pytest.mark.parametrize('case', discover('points_*'))
def test_boxes_and_their_noise_equal_the_released_ones(case: GoldenCase) -> None:
    shape = tuple(int(side) for side in case.arrays['shape'])
    masks = unpack_masks(case.arrays['gt_bits'], shape)[:, None]
    boxes = masks_to_boxes(masks)
    assert_exact(boxes, case.arrays['mask_to_box'][:, 0], 'boxes')
    noise = torch.from_numpy(case.arrays['box_noise'][:, 0])
    moved = jitter_boxes(boxes[: len(noise)], noise, shape[1:])  # type: ignore[arg-type]
    prompt = boxes_to_points(moved)
    assert_within(prompt.coords, case.arrays['box_points'], 1e-5, 'corners')
    assert_exact(prompt.labels, case.arrays['box_labels'], 'labels')


def test_a_box_ends_on_the_first_and_last_pixel_of_its_mask(masks: Tensor) -> None:
    expected = [[10.0, 5.0, 89.0, 44.0], [99.0, 59.0, 99.0, 59.0]]
    assert masks_to_boxes(masks)[:2].tolist() == expected


def test_an_empty_mask_has_an_inverted_box(masks: Tensor) -> None:
    assert masks_to_boxes(masks)[2].tolist() == [100.0, 60.0, -1.0, -1.0]


def test_no_objects_have_no_boxes() -> None:
    assert masks_to_boxes(torch.zeros(0, 1, *SIZE, dtype=torch.bool)).shape == (0, 4)


def test_noise_of_one_half_moves_nothing(masks: Tensor) -> None:
    boxes = masks_to_boxes(masks[:2])
    assert torch.equal(jitter_boxes(boxes, torch.full((2, 4), 0.5), SIZE), boxes)


@pytest.mark.parametrize(
    ('side', 'reach'), [(50, 5.0), (200, 20.0), (400, 20.0)], ids=str
)
def test_corners_move_by_a_tenth_of_the_box_but_at_most_twenty_pixels(
    side: int, reach: float
) -> None:
    boxes = torch.tensor([[100.0, 100.0, 100.0 + side, 100.0 + side]])
    moved = jitter_boxes(boxes, torch.tensor([[0.0, 0.0, 1.0, 1.0]]), (999, 999))
    expected = torch.tensor([[-reach, -reach, reach, reach]])
    assert torch.allclose(moved - boxes, expected)


def test_corners_stay_inside_the_frame() -> None:
    frame = torch.tensor([[0.0, 0.0, 99.0, 59.0]])
    outwards = jitter_boxes(frame, torch.tensor([[0.0, 0.0, 1.0, 1.0]]), SIZE)
    assert torch.equal(outwards, frame)


def test_sampled_boxes_repeat_with_the_generator_and_lie_near(masks: Tensor) -> None:
    first, again, other = (
        sample_boxes(masks[:1], generator=torch.Generator().manual_seed(seed))
        for seed in (3, 3, 4)
    )
    assert torch.equal(first.coords, again.coords)
    assert not torch.equal(first.coords, other.coords)
    exact = masks_to_boxes(masks[:1]).reshape(1, 2, 2)
    assert (first.coords - exact).abs().max() <= 8
    assert first.labels.tolist() == [
        [PointLabel.BOX_TOP_LEFT, PointLabel.BOX_BOTTOM_RIGHT]
    ]
