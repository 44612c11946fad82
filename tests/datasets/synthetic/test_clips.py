"""Generated clips and their properties."""

import numpy as np
import pytest

from projects.sam2.datasets.sources import synthetic as clips
from projects.sam2.datasets.sources.synthetic import (
    ClipKind,
    ClipPlan,
    SyntheticClip,
    copy_iou,
    make_clip,
    make_plans,
    returning_objects,
)


@pytest.fixture(scope='module')
def held_out() -> list[tuple[ClipPlan, SyntheticClip]]:
    """The quickstart's held-out clips."""
    plans = make_plans(split='val', num_clips=12, num_frames=20, size=160, seed=0)
    return [(plan, make_clip(plan)) for plan in plans]


Clips = list[tuple[ClipPlan, SyntheticClip]]


def test_first_masks_repeated_score_badly_but_not_nothing(held_out: Clips) -> None:
    scores = [copy_iou(clip.labels, clip.num_objects) for _, clip in held_out]
    assert 0.3 < np.mean(scores) < 0.55


def test_a_third_of_the_clips_and_more_are_hard(held_out: Clips) -> None:
    assert sum(clip.is_hard for _, clip in held_out) >= len(held_out) / 3
    for plan, clip in held_out:
        assert clip.like_texture == (plan.kind is ClipKind.LIKE_TEXTURE)
        if plan.kind is ClipKind.RETURNING:
            assert clip.returning_ids


def test_returning_objects_are_gone_and_seen_again(held_out: Clips) -> None:
    for _, clip in held_out:
        for object_id in clip.returning_ids:
            seen = (clip.labels == object_id).any(axis=(1, 2))
            absent = np.flatnonzero(~seen)
            assert seen[: absent[0]].all()
            assert seen[absent[0] :].any()


def test_all_objects_are_seen_well_on_the_first_frame(held_out: Clips) -> None:
    for plan, clip in held_out:
        assert 2 <= clip.num_objects <= 4
        assert clip.frames.shape == (20, *plan.size, 3)
        areas = np.bincount(clip.labels[0].reshape(-1), minlength=5)[1:]
        assert areas[: clip.num_objects].min() >= 0.008 * clip.labels[0].size
        assert clip.labels.max() == clip.num_objects


def test_like_textures_have_one_colouring_and_others_do_not(held_out: Clips) -> None:
    for plan, clip in held_out:
        means = [clip.frames[0][clip.labels[0] == i].mean(axis=0) for i in (1, 2)]
        if plan.kind is ClipKind.LIKE_TEXTURE:
            assert np.abs(means[0] - means[1]).max() < 45


def test_plan_alone_decides_the_clip() -> None:
    plan = ClipPlan(
        name='a', seed=(1, 2), kind=ClipKind.PLAIN, size=(48, 64), num_frames=8
    )
    first, again = make_clip(plan), make_clip(plan)
    np.testing.assert_array_equal(first.frames, again.frames)
    np.testing.assert_array_equal(first.labels, again.labels)


def test_held_out_clips_do_not_depend_on_the_others_and_differ_from_them() -> None:
    few, many = (
        make_plans(split='val', num_clips=n, num_frames=8, size=64, seed=5)
        for n in (3, 6)
    )
    train = make_plans(split='train', num_clips=3, num_frames=8, size=64, seed=5)
    assert many[:3] == few
    assert not {plan.seed for plan in train} & {plan.seed for plan in many}
    assert len({plan.size for plan in many}) == 3
    assert {plan.kind for plan in few} == set(ClipKind)


def test_too_few_frames_are_refused() -> None:
    with pytest.raises(ValueError, match='a: 7 frames; give 8'):
        ClipPlan(name='a', seed=(1,), kind=ClipKind.PLAIN, size=(8, 8), num_frames=7)


def test_impossible_plan_raises_with_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clips, 'MIN_FIRST_SHARE', 1.0)
    plan = ClipPlan(
        name='tiny', seed=(1,), kind=ClipKind.PLAIN, size=(8, 8), num_frames=8
    )
    with pytest.raises(RuntimeError, match='tiny: no draw'):
        make_clip(plan)


def test_gap_between_two_appearances_is_a_return() -> None:
    labels = np.zeros((6, 2, 2), np.uint8)
    labels[[0, 1, 4, 5], 0, 0] = 1  # away for two frames
    labels[[0, 1, 3], 0, 1] = 2  # away for one: hidden, perhaps
    labels[[0, 1], 1, 0] = 3  # does not return
    assert returning_objects(labels, 3) == (1,)


def test_copy_scores_what_a_repeated_mask_scores() -> None:
    labels = np.zeros((4, 2, 4), np.uint8)
    labels[0, 0, :2] = 1
    labels[1, 0, 1:3] = 1  # one of three pixels
    labels[3, 0, :2] = 1  # the last frame does not count
    labels[:2, 1, 0] = 2  # a hit, then gone
    assert copy_iou(labels, 2) == pytest.approx(((1 / 3 + 0) / 2 + (1 + 0) / 2) / 2)
