"""Tests of the generated clips of cells."""

import numpy as np

from projects.sam2.datasets.sources.cells import draw_clip


def test_a_seed_gives_one_clip_at_any_size() -> None:
    small_frames, small_labels = draw_clip(3, 4)
    frames, labels = draw_clip(3, 4, side=512)
    assert frames.shape == (4, 512, 512, 3)
    assert np.array_equal(draw_clip(3, 4)[0], small_frames)
    assert np.unique(labels).tolist() == np.unique(small_labels).tolist()
    # Rounded outlines differ by a pixel of the small frame at most.
    assert (labels[:, 2::4, 2::4] == small_labels).mean() > 0.98


def test_a_label_covers_its_cell() -> None:
    frames, labels = draw_clip(5, 2)
    brightness = frames.max(axis=3).astype(float)
    assert brightness[labels > 0].mean() > 2 * brightness[labels == 0].mean()
