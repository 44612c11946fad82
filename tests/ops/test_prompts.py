"""Simulated boxes and clicks, against the released code and against plain counting."""

from collections import Counter

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from golden_cases import (
    GoldenCase,
    assert_exact,
    assert_within,
    discover,
    unpack_masks,
)
from literal_rounds import literal_click
from projects.sam2.ops import (
    boxes_to_points,
    center_error_points,
    clickable_pixels,
    error_regions,
    jitter_boxes,
    jittered_boxes,
    masks_to_boxes,
    sample_error_points,
)
from projects.sam2.structures import PointLabel, PointPrompt

SIZE = (60, 100)


@pytest.fixture
def masks() -> Tensor:
    """A large rectangle, a single pixel in the corner, and nothing."""
    masks = torch.zeros(3, 1, *SIZE, dtype=torch.bool)
    masks[0, 0, 5:45, 10:90] = True
    masks[1, 0, 59, 99] = True
    return masks


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


def test_jittered_boxes_depend_on_the_noise_and_lie_near(masks: Tensor) -> None:
    first, again, other = (
        jittered_boxes(masks[:1], torch.rand(1, 4, generator=_seeded(seed)))
        for seed in (3, 3, 4)
    )
    assert torch.equal(first.coords, again.coords)
    assert not torch.equal(first.coords, other.coords)
    exact = masks_to_boxes(masks[:1]).reshape(1, 2, 2)
    assert (first.coords - exact).abs().max() <= 8
    assert first.labels.tolist() == [
        [PointLabel.BOX_TOP_LEFT, PointLabel.BOX_BOTTOM_RIGHT]
    ]


# A click on pixel (x, y) with its label.
Click = tuple[int, int, int]


@pytest.fixture
def truth() -> Tensor:
    """Four objects: two of a few pixels, one that fills the frame, one absent."""
    masks = torch.zeros(4, 1, 6, 9, dtype=torch.bool)
    masks[0, 0, 1:4, 2:6] = True
    masks[1, 0, 2, 3] = True
    masks[2] = True
    return masks


@pytest.fixture
def prediction(truth: Tensor) -> Tensor:
    """The first object shifted by a pixel, the others predicted perfectly."""
    guess = truth.clone()
    guess[0] = guess[0].roll(1, dims=-1)
    return guess


def _released_masks(case: GoldenCase) -> tuple[Tensor, Tensor]:
    shape = tuple(int(side) for side in case.arrays['shape'])
    truth, prediction = (
        unpack_masks(case.arrays[f'{name}_bits'], shape)[:, None]
        for name in ('gt', 'pred')
    )
    return truth, prediction


def _assert_equal(prompt: PointPrompt, case: GoldenCase, name: str) -> None:
    assert np.array_equal(prompt.coords, case.arrays[f'{name}_points'])
    assert np.array_equal(prompt.labels, case.arrays[f'{name}_labels'])


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _released_clicks(
    truth: Tensor, prediction: Tensor | None, noise: Tensor
) -> PointPrompt:
    """Clicks as released: where noise (O, P, H, W, 2) is largest among the errors."""
    clickable = clickable_pixels(truth, prediction).movedim(1, -1)[:, None]
    index = (noise * clickable).flatten(2).argmax(dim=2)
    pixel, width = index // 2, truth.shape[-1]
    coords = torch.stack([pixel % width, pixel // width], dim=-1).float()
    return PointPrompt(coords=coords, labels=(index % 2).int())


def _click(prompt: PointPrompt, index: int) -> Click:
    x, y = prompt.coords[index, 0].tolist()
    return int(x), int(y), int(prompt.labels[index, 0])


def _wrong_pixels(truth: Tensor, prediction: Tensor) -> set[Click]:
    """All clicks that may be drawn for one object, by visiting every pixel."""
    clicks: set[Click] = set()
    height, width = truth.shape[-2:]
    for y in range(height):
        for x in range(width):
            true, predicted = bool(truth[0, y, x]), bool(prediction[0, y, x])
            if true != predicted:
                clicks.add((x, y, int(true)))
    if clicks:
        return clicks
    background = np.argwhere(~truth[0].numpy())
    return {(int(x), int(y), 0) for y, x in background}


@pytest.mark.golden
@pytest.mark.parametrize('case', discover('points_*'))
@pytest.mark.parametrize('on_truth', [False, True], ids=['correction', 'first'])
def test_clicks_equal_the_released_ones(case: GoldenCase, *, on_truth: bool) -> None:
    truth, guess = _released_masks(case)
    prediction = None if on_truth else guess
    suffix = '0' if on_truth else ''
    _assert_equal(center_error_points(truth, prediction), case, f'center{suffix}')
    noise = torch.from_numpy(case.arrays[f'rand{suffix}_noise'])
    prompt = _released_clicks(truth, prediction, noise)
    _assert_equal(prompt, case, f'rand{suffix}')


@pytest.mark.parametrize('index', [0, 1, 3])
def test_every_wrong_pixel_is_clicked_equally_often(
    truth: Tensor, prediction: Tensor, index: int
) -> None:
    possible = _wrong_pixels(truth[index], prediction[index])
    repeats = 3
    draws = repeats * len(possible)
    one_truth = truth[index].expand(draws, -1, -1, -1)
    one_prediction = prediction[index].expand(draws, -1, -1, -1)
    uniform = torch.arange(draws, dtype=torch.float64) / draws
    prompt = sample_error_points(one_truth, one_prediction, uniform)
    drawn = Counter(_click(prompt, draw) for draw in range(draws))
    assert drawn == dict.fromkeys(possible, repeats)


def test_largest_uniform_number_still_clicks_on_an_error(truth: Tensor) -> None:
    uniform = torch.full((4,), float(np.nextafter(1.0, 0.0)), dtype=torch.float64)
    prompt = sample_error_points(truth, None, uniform)
    assert _click(prompt, 0) == (5, 3, 1)
    assert _click(prompt, 1) == (3, 2, 1)


def test_first_click_is_positive_and_on_the_object(truth: Tensor) -> None:
    for uniform in torch.rand(20, 3, generator=_seeded(1), dtype=torch.float64):
        prompt = sample_error_points(truth[:3], None, uniform)
        for index in range(3):
            x, y, label = _click(prompt, index)
            assert label == 1
            assert truth[index, 0, y, x]


def test_absent_object_predicted_somewhere_gets_a_negative_click_there(
    truth: Tensor,
) -> None:
    surplus = torch.zeros_like(truth[3:])
    surplus[0, 0, 4, 7] = True
    prompt = sample_error_points(truth[3:], surplus, torch.full((1,), 0.5).double())
    assert _click(prompt, 0) == (7, 4, 0)


def test_full_frame_predicted_perfectly_has_nowhere_to_click(truth: Tensor) -> None:
    uniform = torch.full((1,), 0.7, dtype=torch.float64)
    prompt = sample_error_points(truth[2:3], truth[2:3], uniform)
    assert _click(prompt, 0) == (0, 0, 0)


def _slow_center(region: NDArray[np.bool_]) -> tuple[int, tuple[int, int]]:
    """Greatest squared distance to the next pixel outside, and the first such pixel."""
    padded = np.pad(region, 1)
    outside = np.argwhere(~padded)
    deepest, center = 0, (0, 0)
    for y, x in np.argwhere(padded):
        squared = int(((outside - (y, x)) ** 2).sum(axis=1).min())
        if squared > deepest:
            deepest, center = squared, (int(x) - 1, int(y) - 1)
    return deepest, center


@pytest.mark.parametrize('seed', range(4))
def test_center_click_is_farthest_from_the_border_of_the_larger_error(
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.random((2, 1, 4, 5)) > 0.5)
    truth, prediction = coarse.repeat_interleave(5, 2).repeat_interleave(5, 3)[:, None]
    false_positives, false_negatives = error_regions(truth, prediction)[0].numpy()
    missing, missing_center = _slow_center(false_negatives)
    surplus, surplus_center = _slow_center(false_positives)
    x, y, label = _click(center_error_points(truth, prediction), 0)
    assert label == int(missing > surplus)
    assert (x, y) == (missing_center if label else surplus_center)


def test_last_bits_of_distances_do_not_move_a_click(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """OpenCV's distances differ in them by where an array lies in memory."""
    measure = cv2.distanceTransform
    rng = np.random.default_rng(8)

    def measure_roughly(
        region: NDArray[np.uint8], kind: int, size: int
    ) -> NDArray[np.float64]:
        noise: NDArray[np.float64] = rng.choice([-1e-7, 0, 1e-7], region.shape)
        depth = np.asarray(measure(region, kind, size), np.float64)
        return depth + noise * depth

    truth = torch.zeros(2, 1, 40, 60, dtype=torch.bool)
    truth[0, 0, 5:25, 10:50] = True  # a ridge of equal distances
    truth[1, 0, 30:36, 10:16] = True  # two errors of one depth
    guess = torch.zeros_like(truth)
    guess[1, 0, 5:11, 20:26] = True
    exact = center_error_points(truth, guess)
    assert _click(exact, 0) == (19, 14, 1)
    assert _click(exact, 1) == (22, 7, 0)
    monkeypatch.setattr(cv2, 'distanceTransform', measure_roughly)
    for _ in range(20):
        rough = center_error_points(truth, guess)
        assert torch.equal(rough.coords, exact.coords)
        assert torch.equal(rough.labels, exact.labels)


def test_the_edge_of_the_frame_counts_as_a_border() -> None:
    truth = torch.ones(1, 1, 7, 7, dtype=torch.bool)
    assert _click(center_error_points(truth, None), 0) == (3, 3, 1)


@pytest.mark.parametrize(
    ('prediction', 'message'),
    [
        (torch.zeros(4, 1, 6, 9), 'compare logits with 0'),
        (torch.zeros(4, 1, 6, 8, dtype=torch.bool), r'\(4, 1, 6, 8\)'),
        (torch.zeros(4, 2, 6, 9, dtype=torch.bool), r'\(4, 2, 6, 9\)'),
    ],
    ids=['logits', 'other size', 'candidates'],
)
def test_masks_that_do_not_match_are_refused(
    truth: Tensor, prediction: Tensor, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        error_regions(truth, prediction)


def test_no_click_falls_on_a_void_pixel() -> None:
    truth = torch.zeros(1, 1, 8, 8, dtype=torch.bool)
    truth[..., 2:5, 2:5] = True
    void = ~truth
    void[..., 7, 7] = False
    wrong = truth | void
    for uniform in torch.rand(50, 1, generator=_seeded(0), dtype=torch.float64):
        for prediction in (truth, wrong):
            click = sample_error_points(truth, prediction, uniform, void)
            assert click.coords.flatten().tolist() == [7, 7]
            assert click.labels.item() == PointLabel.NEGATIVE
    middle = center_error_points(truth, wrong & void, void)
    assert middle.coords.flatten().tolist() == [3, 3]
    assert middle.labels.item() == PointLabel.POSITIVE


def test_middle_of_an_error_is_found_by_trying_every_pixel() -> None:
    generator = torch.Generator().manual_seed(5)
    blobs = torch.rand(2, 30, 1, 5, 7, generator=generator) < 0.5
    truth, guess = blobs.repeat_interleave(3, dim=3).repeat_interleave(2, dim=4)
    prompt = center_error_points(truth, guess)
    for index in range(len(truth)):
        expected = literal_click(truth[index, 0].numpy(), guess[index, 0].numpy())
        assert _click(prompt, index) == expected
