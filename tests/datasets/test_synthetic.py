"""Generated clips: their textures, scenes and properties."""

import pickle
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from projects.sam2.datasets import ClipSyntheticDataset
from projects.sam2.datasets.sources import synthetic
from projects.sam2.datasets.sources.synthetic import (
    MEMORY_KINDS,
    PATTERNS,
    STANDARD_KINDS,
    Blob,
    ClipKind,
    ClipPlan,
    Motion,
    Scene,
    SyntheticClip,
    background_texture,
    copy_iou,
    draw_background,
    draw_blob,
    make_clip,
    make_plans,
    object_texture,
    returning_objects,
    value_noise,
)
from projects.sam2.structures import VideoSource

# Clips


@pytest.fixture(scope='module')
def held_out() -> list[tuple[ClipPlan, SyntheticClip]]:
    """The quickstart's held-out clips."""
    plans = make_plans(split='val', num_clips=12, num_frames=20, size=160, seed=0)
    return [(plan, make_clip(plan)) for plan in plans]


Clips = list[tuple[ClipPlan, SyntheticClip]]


def test_first_masks_repeated_score_badly_but_not_nothing(held_out: Clips) -> None:
    scores = [copy_iou(clip.labels, clip.num_objects) for _, clip in held_out]
    assert 0.3 < np.mean(scores) < 0.55


def test_at_least_a_third_of_the_clips_is_hard(held_out: Clips) -> None:
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


def test_all_objects_are_large_enough_on_the_first_frame(held_out: Clips) -> None:
    for plan, clip in held_out:
        assert 2 <= clip.num_objects <= 4
        assert clip.frames.shape == (20, *plan.size, 3)
        areas = np.bincount(clip.labels[0].reshape(-1), minlength=5)[1:]
        assert areas[: clip.num_objects].min() >= 0.008 * clip.labels[0].size
        assert clip.labels.max() == clip.num_objects


def test_similar_textures_have_similar_colours(held_out: Clips) -> None:
    for plan, clip in held_out:
        means = [clip.frames[0][clip.labels[0] == i].mean(axis=0) for i in (1, 2)]
        if plan.kind is ClipKind.LIKE_TEXTURE:
            assert np.abs(means[0] - means[1]).max() < 45


def test_clip_depends_only_on_its_plan() -> None:
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
    assert {plan.kind for plan in few} == set(STANDARD_KINDS)


def test_targets_among_like_objects_are_covered_or_gone_and_return() -> None:
    plans = make_plans(
        split='val', num_clips=3, num_frames=40, size=64, seed=0, kinds=MEMORY_KINDS
    )
    for plan in plans:
        clip = make_clip(plan)
        areas = (clip.labels == 1).sum(axis=(1, 2))
        usual = np.median(areas[areas > 0])
        assert clip.num_objects == 1
        assert areas[-6:].min() >= usual / 2
        if plan.kind is ClipKind.CROSSING:
            assert areas.min() < 0.6 * usual
        else:
            assert clip.returning_ids == (1,)
            assert (areas == 0).sum() >= 10
        # Outside of the mask there are many pixels of the target's colours.
        target = clip.frames[0][clip.labels[0] == 1].mean(axis=0)
        last, rest = clip.frames[-1].astype(float), clip.labels[-1] == 0
        light = clip.frames[-1][~rest].mean() / target.mean()
        near = np.abs(last - light * target).max(axis=-1) < 60
        assert (near & rest).sum() > 0.3 * usual


def test_kinds_and_seed_of_the_dataset_choose_its_clips() -> None:
    def frames(**options: Any) -> NDArray[np.uint8]:
        dataset = ClipSyntheticDataset(num_clips=1, num_frames=8, **options)
        source = dataset.open_video(dataset.list_videos()[0])
        return source.clip.frames

    usual = frames()
    np.testing.assert_array_equal(usual, frames(kinds=['like_texture'], seed=0))
    assert not np.array_equal(usual, frames(seed=1))
    assert not np.array_equal(usual, frames(kinds=['crossing']))
    with pytest.raises(ValueError, match=r"\['crosing'\]: give some of like_texture, "):
        frames(kinds=['crosing'])


def test_too_few_frames_are_refused() -> None:
    with pytest.raises(ValueError, match='a: 7 frames; give 8'):
        ClipPlan(name='a', seed=(1,), kind=ClipKind.PLAIN, size=(8, 8), num_frames=7)


def test_impossible_plan_raises_with_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthetic, 'MIN_FIRST_SHARE', 1.0)
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


# Scenes

SIZE = (60, 80)
SKIN = np.full((160, 160, 3), (200, 40, 40), np.uint8)


def round_blob(x: float, y: float, radius: float = 10.0) -> Blob:
    """A red disc that stays."""
    blob = draw_blob(
        np.random.default_rng(0), SKIN, radius, Motion.still(np.array([x, y]))
    )
    return replace(blob, waves=np.zeros((4, 3)), spin=(0.0, 0.0), pulse=0.0)


def scene(*objects: Blob, occluder: Blob | None = None) -> Scene:
    """Blobs over a dark background."""
    return Scene(
        background=np.full((120, 160, 3), 20, np.uint8),
        pan=np.zeros(2),
        objects=objects,
        occluder=occluder,
        light=0.0,
    )


def test_mask_covers_the_disc_and_its_colour() -> None:
    frame, labels = scene(round_blob(30, 25)).render(
        0.5, SIZE, np.random.default_rng(0)
    )
    y, x = np.mgrid[:60, :80]
    inside = np.hypot(x - 30, y - 25) < 10
    assert ((labels == 1) ^ inside).sum() < 0.2 * inside.sum()
    assert frame[labels == 1].mean(axis=0) == pytest.approx((198, 40, 40), abs=8)
    assert frame[labels == 0].mean() == pytest.approx(20, abs=2)


def test_later_objects_and_the_occluder_hide_earlier_ones() -> None:
    lower, upper = round_blob(30, 30), round_blob(38, 30)
    alone = scene(lower).render(0.0, SIZE, np.random.default_rng(0))[1]
    both = scene(lower, upper).render(0.0, SIZE, np.random.default_rng(0))[1]
    hidden = scene(lower, upper, occluder=round_blob(34, 30, 30.0))
    assert (both == 1).sum() < (alone == 1).sum()
    assert both[30, 34] == 2
    assert not hidden.render(0.0, SIZE, np.random.default_rng(0))[1].any()


def test_excursion_leads_out_and_back() -> None:
    still = Motion.still(np.array([40.0, 30.0]))
    motion = replace(still, excursion=np.array([100.0, 0.0]), away=(0.2, 0.8))
    positions = [float(motion.at(time)[0]) for time in (0.0, 0.2, 0.5, 0.8, 1.0)]
    assert positions == pytest.approx([40, 40, 140, 40, 40])


def test_drift_and_sway_add_up() -> None:
    motion = Motion(
        start=np.array([10.0, 20.0]),
        drift=np.array([8.0, 0.0]),
        sway=np.array([0.0, 5.0]),
        frequency=np.array([1.0, 1.0]),
        excursion=np.zeros(2),
        away=(0.0, 1.0),
    )
    np.testing.assert_allclose(motion.at(0.25), (12.0, 25.0))


def test_blob_outside_the_frame_leaves_it_as_it_is() -> None:
    frame = np.full((60, 80, 3), 7, np.float32)
    assert not round_blob(300, 30).draw(frame, 0.0, np.zeros(2)).any()
    assert (frame == 7).all()


def test_background_moves_with_the_pan_and_objects_do_not() -> None:
    rng = np.random.default_rng(4)
    background = draw_background(rng, SIZE, [SKIN])
    assert background.shape == (120, 160, 3)
    moving = replace(
        scene(round_blob(40, 30)), background=background, pan=np.array([20.0, 0.0])
    )
    first, labels = moving.render(0.0, SIZE, np.random.default_rng(0))
    last, same_labels = moving.render(1.0, SIZE, np.random.default_rng(0))
    np.testing.assert_array_equal(labels, same_labels)
    is_background = (labels[:, 20:] == 0) & (labels[:, :-20] == 0)
    moved = np.abs(last[:, 20:].astype(int) - first[:, :-20])[is_background]
    assert np.median(moved) <= 6  # the camera's noise


def test_outline_deforms_in_time() -> None:
    blob = draw_blob(
        np.random.default_rng(8), SKIN, 15.0, Motion.still(np.array([40, 30]))
    )
    masks = [scene(blob).render(t, SIZE, np.random.default_rng(0))[1] for t in (0, 1)]
    union = ((masks[0] | masks[1]) > 0).sum()
    assert ((masks[0] != masks[1]).sum()) > 0.1 * union


# Textures

Pattern = Callable[[np.random.Generator, tuple[int, int]], NDArray[np.float32]]


@pytest.mark.parametrize('pattern', PATTERNS)
def test_patterns_vary_between_0_and_1(pattern: Pattern) -> None:
    drawn = pattern(np.random.default_rng(0), (40, 60))
    assert drawn.shape == (40, 60)
    assert (drawn.min(), drawn.max()) == (0, 1)
    assert drawn.std() > 0.1


def test_noise_of_a_coarser_cell_is_smoother() -> None:
    rough, smooth = (
        np.abs(np.diff(value_noise(np.random.default_rng(0), (64, 64), (cell,)))).mean()
        for cell in (3, 24)
    )
    assert rough > 3 * smooth


def test_textures_depend_only_on_the_generator() -> None:
    first, again, other = (
        object_texture(np.random.default_rng(seed), 50) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert np.abs(first.astype(int) - other).mean() > 10


def test_background_fills_the_range_without_wrapping() -> None:
    texture = background_texture(np.random.default_rng(3), (80, 120))
    assert texture.shape == (80, 120, 3)
    # A value that wrapped around would leave a jump of more than 200.
    assert np.abs(np.diff(texture.astype(int), axis=1)).max() < 120


# Dataset


@pytest.fixture(scope='module')
def dataset() -> ClipSyntheticDataset:
    """Clips, as they come."""
    return ClipSyntheticDataset(num_clips=6)


def test_same_name_renders_the_same_clip(dataset: ClipSyntheticDataset) -> None:
    first, again = (dataset.open_video('made_00002') for _ in range(2))
    assert np.array_equal(first.read_frame(5), again.read_frame(5))
    more = ClipSyntheticDataset(num_clips=9).open_video('made_00002')
    assert np.array_equal(first.read_frame(5), more.read_frame(5))
    other = dataset.open_video('made_00000')
    assert other.read_frame(5).shape == first.read_frame(5).shape
    assert not np.array_equal(first.read_frame(5), other.read_frame(5))


def test_rendered_clip_is_a_source_like_any_other(
    dataset: ClipSyntheticDataset,
) -> None:
    source = dataset.open_video(dataset.list_videos()[0])
    assert isinstance(source, VideoSource)
    assert source.annotated_frames() == tuple(range(8))
    assert source.frame_name(3) == '00003'
    for frame in range(source.num_frames):
        truth = source.read_masks(frame)
        assert truth.masks.shape[1:] == source.read_frame(frame).shape[:2]
        assert truth.masks.any(axis=(1, 2)).all()
        assert truth.masks.sum(axis=0).max() == 1


def test_objects_of_the_first_frame_keep_their_ids(
    dataset: ClipSyntheticDataset,
) -> None:
    for name in dataset.list_videos():
        source = dataset.open_video(name)
        first = set(source.read_masks(0).object_ids)
        assert first == set(range(1, source.clip.num_objects + 1))
        for frame in source.annotated_frames():
            assert set(source.read_masks(frame).object_ids) <= first


def test_workers_get_plans_not_images(dataset: ClipSyntheticDataset) -> None:
    assert len(pickle.dumps(dataset)) < 20_000


def test_clips_pass_through_a_training_pipeline() -> None:
    pipeline: list[dict[str, Any]] = [
        {'type': 'ClipSampleFrames', 'num_frames': 4, 'max_num_objects': 2},
        {'type': 'ClipLoadFrames'},
        {'type': 'ClipLoadMasklets'},
        {'type': 'ClipResize', 'size': (64, 64)},
        {'type': 'ClipWarp'},
        {'type': 'ClipPack'},
    ]
    mixed = ClipSyntheticDataset(num_clips=4, pipeline=pipeline)
    sample = mixed[1]
    assert tuple(sample.frames.shape) == (4, 3, 64, 64)
    assert sample.masklets[0].flatten(1).any(dim=1).all()
