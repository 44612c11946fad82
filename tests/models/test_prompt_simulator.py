"""Simulated prompts: frequencies, reproducibility and independence of the batch."""

from collections import Counter
from typing import Any

import pytest
import torch

from projects.sam2.models.prompt_simulator import (
    ClickGenerators,
    PromptKind,
    PromptPlan,
    SAM2PromptSimulator,
)

NUM_PLANS = 2000


@pytest.fixture
def truth() -> torch.Tensor:
    """Three objects: two rectangles and one that is not there."""
    masks = torch.zeros(3, 1, 32, 48, dtype=torch.bool)
    masks[0, 0, 4:20, 6:30] = True
    masks[1, 0, 10:12, 40:44] = True
    return masks


def _clicks(seeds: list[int], videos: list[int]) -> ClickGenerators:
    return ClickGenerators(seeds, [videos.count(video) for video in range(len(seeds))])


def test_published_recipe_draws_prompts_with_its_probabilities() -> None:
    simulator = SAM2PromptSimulator()
    plans = [simulator.plan(8, step) for step in range(NUM_PLANS)]
    kinds = Counter(kind for plan in plans for kind in set(plan.prompts.values()))
    masks = kinds[PromptKind.MASK] / NUM_PLANS
    assert masks == pytest.approx(0.5, abs=0.04)
    drawn = [
        kind for p in plans for kind in p.prompts.values() if kind != PromptKind.MASK
    ]
    boxes = sum(kind is PromptKind.BOX for kind in drawn) / len(drawn)
    assert boxes == pytest.approx(0.5, abs=0.04)
    conditioning = Counter(len(plan.prompts) for plan in plans)
    assert set(conditioning) == {1, 2}
    assert conditioning[2] / NUM_PLANS == pytest.approx(0.5, abs=0.04)
    later = Counter(max(p.prompts) for p in plans if len(p.prompts) == 2)
    assert set(later) == set(range(1, 8))


def test_plan_depends_on_step_and_run_seed_alone() -> None:
    first, second = SAM2PromptSimulator(), SAM2PromptSimulator()
    plans = [first.plan(8, step) for step in range(50)]
    assert plans == [second.plan(8, step) for step in range(50)]
    assert plans != [second.plan(8, step, seed=1) for step in range(50)]
    assert any(plan != plans[0] for plan in plans)


def test_prompted_frames_are_corrected_and_corrected_frames_condition() -> None:
    simulator = SAM2PromptSimulator(
        point_probability=1.0,
        num_conditioning_frames=(2, 2),
        num_correction_frames=(1, 4),
    )
    sizes = set()
    for step in range(100):
        plan = simulator.plan(6, step)
        assert set(plan.prompts) <= plan.correction_frames
        assert plan.conditioning_frames == plan.correction_frames
        assert next(iter(plan.prompts)) == 0
        sizes.add(len(plan.correction_frames))
    assert sizes == {2, 3, 4}


def test_clips_prompted_with_masks_get_no_corrections() -> None:
    plan = SAM2PromptSimulator(point_probability=0.0).plan(8, 0)
    assert set(plan.prompts.values()) == {PromptKind.MASK}
    assert not plan.correction_frames


def test_memories_of_corrected_frames_count_as_conditioning() -> None:
    simulator = SAM2PromptSimulator(
        point_probability=1.0,
        num_conditioning_frames=(1, 1),
        num_correction_frames=(3, 3),
    )
    plan = simulator.plan(8, 0)
    assert len(plan.correction_frames) == 3
    assert set(plan.prompts) == {0}
    assert plan.conditioning_frames == plan.correction_frames


def test_single_frames_always_get_points() -> None:
    simulator = SAM2PromptSimulator(point_probability=0.0, box_probability=0.0)
    plan = simulator.plan(1, 0)
    assert plan.prompts == {0: PromptKind.POINT}
    assert plan.correction_frames == {0}


def test_clip_gets_the_same_clicks_whatever_stands_beside_it(
    truth: torch.Tensor,
) -> None:
    simulator = SAM2PromptSimulator()
    wrong = torch.zeros_like(truth)
    alone = _clicks([7], [0, 0, 0])
    beside = _clicks([3, 7], [0, 0, 0, 1, 1, 1])
    for _ in range(5):
        single = simulator.correction(truth, wrong, alone)
        both = simulator.correction(
            torch.cat([truth.flip(-1), truth]), torch.cat([wrong, wrong]), beside
        )
        assert torch.equal(both.coords[3:], single.coords)
        assert torch.equal(both.labels[3:], single.labels)


def test_first_point_lies_on_the_object(truth: torch.Tensor) -> None:
    simulator = SAM2PromptSimulator()
    clicks = _clicks([1], [0, 0, 0])
    for _ in range(20):
        prompt = simulator.first_prompt(PromptKind.POINT, truth, clicks).points
        assert prompt is not None
        for position in (0, 1):
            x, y = prompt.coords[position, 0].long().tolist()
            assert truth[position, 0, y, x]
            assert prompt.labels[position, 0] == 1


def test_box_is_two_labelled_corners(truth: torch.Tensor) -> None:
    prompt = SAM2PromptSimulator().first_prompt(
        PromptKind.BOX, truth[:2], _clicks([1], [0, 0])
    )
    assert prompt.points is not None
    assert prompt.points.labels.tolist() == [[2, 3], [2, 3]]
    corners = torch.tensor([[[6.0, 4.0], [29.0, 19.0]], [[40.0, 10.0], [43.0, 11.0]]])
    assert (prompt.points.coords - corners).abs().max() <= 0.1 * 24 + 1e-4


def test_truth_clicks_ignore_the_prediction(truth: torch.Tensor) -> None:
    always = SAM2PromptSimulator(truth_click_probability=1.0)
    never = SAM2PromptSimulator(truth_click_probability=0.0)
    perfect = truth.clone()
    for seed in range(10):
        on_truth = always.correction(truth, perfect, _clicks([seed], [0, 0, 0]))
        assert on_truth.labels[:2].flatten().tolist() == [1, 1]
        elsewhere = never.correction(truth, perfect, _clicks([seed], [0, 0, 0]))
        assert elsewhere.labels.flatten().tolist() == [0, 0, 0]


@pytest.mark.parametrize('bounds', [(0, 1), (3, 2)])
def test_empty_range_is_named(bounds: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r'num_correction_frames.*1 <= least <= most'):
        SAM2PromptSimulator(num_correction_frames=bounds)


@pytest.mark.parametrize('num_frames', [2, 3])
def test_clip_prompted_with_masks_keeps_a_frame_to_track(num_frames: int) -> None:
    simulator = SAM2PromptSimulator(
        point_probability=0.0, num_conditioning_frames=(4, 4)
    )
    assert len(simulator.plan(num_frames, 0).prompts) == num_frames - 1


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'box_probability': 1.5}, 'box_probability is 1.5; give a number from 0'),
        ({'point_probability': -0.1}, 'point_probability is -0.1'),
        ({'click_method': 'centre'}, "'centre'; give one of .*'center'"),
    ],
)
def test_argument_out_of_range_is_named(
    arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        SAM2PromptSimulator(**arguments)


def test_frame_that_a_clip_has_no_annotation_of_is_left_out_of_the_plan() -> None:
    plan = PromptPlan(
        prompts={0: PromptKind.BOX, 3: PromptKind.POINT},
        correction_frames=frozenset({0, 2, 3}),
        conditioning_frames=frozenset({0, 2, 3}),
    )
    restricted = plan.where_annotated({1, 2})
    assert restricted.prompts == {0: PromptKind.BOX}
    assert restricted.correction_frames == restricted.conditioning_frames == {0, 2}


def test_void_pixels_are_neither_wrong_nor_clicked(truth: torch.Tensor) -> None:
    simulator = SAM2PromptSimulator(click_method='center')
    prediction = torch.zeros_like(truth[:1])
    prediction[..., 20:31, 34:47] = True  # the larger error
    for void, (label, (left, right)) in (
        (None, (0, (34, 46))),
        (prediction, (1, (6, 29))),
    ):
        missing = truth[:1].clone()
        missing[..., 12:, :] = False
        click = simulator.correction(missing, prediction, _clicks([0], [0]), void)
        assert click.labels.item() == label
        assert left <= click.coords[0, 0, 0] <= right


def test_each_object_draws_one_number_and_each_clip_another() -> None:
    clicks = _clicks([5, 6], [0, 0, 1])
    counted = [torch.Generator().manual_seed(seed) for seed in (5, 6)]
    on_truth = clicks.per_clip()
    uniform = clicks.per_object(dtype=torch.float64)
    expected_clips = [torch.rand((), generator=generator) for generator in counted]
    expected = [
        torch.rand(size, generator=generator, dtype=torch.float64)
        for size, generator in zip((2, 1), counted, strict=True)
    ]
    first, second = expected_clips
    assert torch.equal(on_truth, torch.stack([first, first, second]))
    assert torch.equal(uniform, torch.cat(expected))
