"""Bodies that move over a ground."""

from dataclasses import replace

import numpy as np
import pytest

from projects.sam2.datasets.sources.synthetic import (
    Body,
    Motion,
    Scene,
    draw_body,
    draw_ground,
    standing,
)

SIZE = (60, 80)
SKIN = np.full((160, 160, 3), (200, 40, 40), np.uint8)


def round_body(x: float, y: float, radius: float = 10.0) -> Body:
    """A red disc that stays."""
    body = draw_body(np.random.default_rng(0), SKIN, radius, standing(np.array([x, y])))
    return replace(body, waves=np.zeros((4, 3)), spin=(0.0, 0.0), pulse=0.0)


def scene(*objects: Body, occluder: Body | None = None) -> Scene:
    """Bodies over a dark ground."""
    return Scene(
        ground=np.full((120, 160, 3), 20, np.uint8),
        pan=np.zeros(2),
        objects=objects,
        occluder=occluder,
        light=0.0,
    )


def test_mask_covers_the_disc_and_its_colour() -> None:
    frame, labels = scene(round_body(30, 25)).render(
        0.5, SIZE, np.random.default_rng(0)
    )
    y, x = np.mgrid[:60, :80]
    inside = np.hypot(x - 30, y - 25) < 10
    assert ((labels == 1) ^ inside).sum() < 0.2 * inside.sum()
    assert frame[labels == 1].mean(axis=0) == pytest.approx((198, 40, 40), abs=8)
    assert frame[labels == 0].mean() == pytest.approx(20, abs=2)


def test_later_objects_and_the_occluder_hide_earlier_ones() -> None:
    lower, upper = round_body(30, 30), round_body(38, 30)
    alone = scene(lower).render(0.0, SIZE, np.random.default_rng(0))[1]
    both = scene(lower, upper).render(0.0, SIZE, np.random.default_rng(0))[1]
    hidden = scene(lower, upper, occluder=round_body(34, 30, 30.0))
    assert (both == 1).sum() < (alone == 1).sum()
    assert both[30, 34] == 2
    assert not hidden.render(0.0, SIZE, np.random.default_rng(0))[1].any()


def test_excursion_leads_out_and_back() -> None:
    still = standing(np.array([40.0, 30.0]))
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


def test_body_outside_the_frame_leaves_it_as_it_is() -> None:
    frame = np.full((60, 80, 3), 7, np.float32)
    assert not round_body(300, 30).draw(frame, 0.0, np.zeros(2)).any()
    assert (frame == 7).all()


def test_ground_moves_with_the_pan_and_objects_do_not() -> None:
    rng = np.random.default_rng(4)
    ground = draw_ground(rng, SIZE, [SKIN])
    assert ground.shape == (120, 160, 3)
    moving = replace(
        scene(round_body(40, 30)), ground=ground, pan=np.array([20.0, 0.0])
    )
    first, labels = moving.render(0.0, SIZE, np.random.default_rng(0))
    last, same_labels = moving.render(1.0, SIZE, np.random.default_rng(0))
    np.testing.assert_array_equal(labels, same_labels)
    background = (labels[:, 20:] == 0) & (labels[:, :-20] == 0)
    moved = np.abs(last[:, 20:].astype(int) - first[:, :-20])[background]
    assert np.median(moved) <= 6  # the camera's noise


def test_outline_deforms_in_time() -> None:
    body = draw_body(np.random.default_rng(8), SKIN, 15.0, standing(np.array([40, 30])))
    masks = [scene(body).render(t, SIZE, np.random.default_rng(0))[1] for t in (0, 1)]
    union = ((masks[0] | masks[1]) > 0).sum()
    assert ((masks[0] != masks[1]).sum()) > 0.1 * union
